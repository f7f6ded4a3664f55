#include "patchify.h"

#include <cstring>
#include <stdexcept>

#include "arguments.h"
#include "tiles.h"

/// move(pixel offset, patch offset) for every run of p pixels; a tile takes whole rows of patches.
template <class F> static void each_run(const PatchGrid& g, int threads, F move) {
  const int64_t p = g.patch, run_elements = g.channels * p * g.width;
  row_tiles<kLightTile>(g.batch * g.rows(), run_elements, threads, [&](int64_t first, int64_t last) {
    for (int64_t line = first; line < last; ++line) {  // line = (b, row of patches)
      const int64_t b = line / g.rows(), patch_row = line % g.rows();
      for (int64_t patch_col = 0; patch_col < g.cols(); ++patch_col)
        for (int64_t c = 0; c < g.channels; ++c)
          for (int64_t row = 0; row < p; ++row)
            move(((b * g.channels + c) * g.height + patch_row * p + row) * g.width + patch_col * p,
                 ((line * g.cols() + patch_col) * g.channels + c) * p * p + row * p);
    }
  });
}

template <class T> void patchify_forward(const T* x, T* y, const PatchGrid& grid, int threads) {
  const size_t bytes = static_cast<size_t>(grid.patch) * sizeof(T);
  each_run(grid, threads, [&](int64_t pixel, int64_t in_patch) { std::memcpy(y + in_patch, x + pixel, bytes); });
}

template <class T> void patchify_backward(const T* dy, T* dx, const PatchGrid& grid, int threads) {
  const size_t bytes = static_cast<size_t>(grid.patch) * sizeof(T);
  each_run(grid, threads, [&](int64_t pixel, int64_t in_patch) { std::memcpy(dx + pixel, dy + in_patch, bytes); });
}

static PatchGrid check_grid(const Arguments& a, int image, int patches) {
  a.floating(0), a.same_dtype(1, 0), a.rank(image, 4);
  const TensorView& x = a[image];
  const PatchGrid grid{x.dim[0], x.dim[1], x.dim[2], x.dim[3], a.whole(0, 1, 1 << 20)};
  if (grid.height % grid.patch || grid.width % grid.patch)
    throw std::invalid_argument(format("%s: image %s expected sides that are multiples of the patch %lld", a.kernel(),
                                       shape_text(x).c_str(), static_cast<long long>(grid.patch)));
  a.shape(patches, {grid.batch, grid.rows() * grid.cols(), grid.channels * grid.patch * grid.patch});
  return grid;
}

OCTAVO_KERNEL_BF16(patchify_forward, OwnBf16::all()) {
  const Arguments a(call, "patchify_forward", {"x", "y"}, {"patch"});
  const PatchGrid grid = check_grid(a, 0, 1);
  a.run([&]<class T>(T) { patchify_forward_reference(a.data<const T>(0), a.data<T>(1), grid); },
        [&] {
          if (a[0].dtype == DType::bf16) patchify_forward(a.data<const Bf16>(0), a.data<Bf16>(1), grid, a.threads());
          else patchify_forward(a.data<const float>(0), a.data<float>(1), grid, a.threads());
        });
}

OCTAVO_KERNEL_BF16(patchify_backward, OwnBf16::all()) {
  const Arguments a(call, "patchify_backward", {"dy", "dx"}, {"patch"});
  const PatchGrid grid = check_grid(a, 1, 0);
  a.run([&]<class T>(T) { patchify_backward_reference(a.data<const T>(0), a.data<T>(1), grid); },
        [&] {
          if (a[0].dtype == DType::bf16) patchify_backward(a.data<const Bf16>(0), a.data<Bf16>(1), grid, a.threads());
          else patchify_backward(a.data<const float>(0), a.data<float>(1), grid, a.threads());
        });
}
