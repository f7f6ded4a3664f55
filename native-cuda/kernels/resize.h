// Images of another size: x (..., H, W) -> y (..., H', W'), every plane by itself, without antialiasing. The centre of output
// pixel i lies at s = (i + 1/2) H / H' - 1/2 (align_corners = false); pixels beyond the edge repeat the edge.
//   cubic = 0  bilinear: the two pixels around s, weights 1 - t and t, t = s - floor s
//   cubic = 1  bicubic: the four pixels around s, Keys 1981 with a = -0.75
// Gradient: dx += the same weights times dy. H and W are at least 1 where H' and W' are. No aliasing.
#pragma once
#include <cstdint>

struct Taps {
  int64_t at[4];   // pixels, clamped to the image
  double weight[4];
};
/// Where output pixel i of `to` reads in a line of `from` pixels.
Taps resize_taps(int64_t i, int64_t from, int64_t to, bool cubic);

struct ResizeShape {
  int64_t planes, height, width, to_height, to_width;
  bool cubic;
};
void resize_forward(const float* x, float* y, const ResizeShape& s, int threads);
void resize_backward(const float* dy, float* dx, const ResizeShape& s, int threads);

template <class T> void resize_forward_reference(const T* x, T* y, const ResizeShape& s);
template <class T> void resize_backward_reference(const T* dy, T* dx, const ResizeShape& s);
