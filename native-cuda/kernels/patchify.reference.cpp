#include "patchify.h"

/// Where pixel (b, c, row, col) lies among the patches.
static int64_t patch_offset(const PatchGrid& g, int64_t b, int64_t c, int64_t row, int64_t col) {
  const int64_t p = g.patch, patch = (b * g.rows() + row / p) * g.cols() + col / p;
  return ((patch * g.channels + c) * p + row % p) * p + col % p;
}

template <class F> static void each_pixel(const PatchGrid& g, F f) {
  int64_t pixel = 0;
  for (int64_t b = 0; b < g.batch; ++b)
    for (int64_t c = 0; c < g.channels; ++c)
      for (int64_t row = 0; row < g.height; ++row)
        for (int64_t col = 0; col < g.width; ++col) f(pixel++, patch_offset(g, b, c, row, col));
}

template <class T> void patchify_forward_reference(const T* x, T* y, const PatchGrid& grid) {
  each_pixel(grid, [&](int64_t pixel, int64_t in_patch) { y[in_patch] = x[pixel]; });
}

template <class T> void patchify_backward_reference(const T* dy, T* dx, const PatchGrid& grid) {
  each_pixel(grid, [&](int64_t pixel, int64_t in_patch) { dx[pixel] = dy[in_patch]; });
}

template void patchify_forward_reference(const float*, float*, const PatchGrid&);
template void patchify_forward_reference(const double*, double*, const PatchGrid&);
template void patchify_backward_reference(const float*, float*, const PatchGrid&);
template void patchify_backward_reference(const double*, double*, const PatchGrid&);
