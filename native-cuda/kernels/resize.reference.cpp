#include "resize.h"

#include <algorithm>
#include <cmath>

Taps resize_taps(int64_t i, int64_t from, int64_t to, bool cubic) {
  const double s = (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
  const double below = std::floor(s), t = s - below, a = -0.75;
  const auto near = [&](double d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };           // distance d <= 1
  const auto far = [&](double d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };       // 1 <= d <= 2
  Taps taps;
  for (int k = 0; k < 4; ++k) taps.at[k] = std::clamp<int64_t>(static_cast<int64_t>(below) + k - 1, 0, from - 1);
  if (cubic) taps.weight[0] = far(1 + t), taps.weight[1] = near(t), taps.weight[2] = near(1 - t), taps.weight[3] = far(2 - t);
  else taps.weight[0] = 0, taps.weight[1] = 1 - t, taps.weight[2] = t, taps.weight[3] = 0;
  return taps;
}

/// body(input pixel, output pixel, weight) for all sixteen taps of all output pixels.
template <class F> static void each_tap(const ResizeShape& s, F body) {
  for (int64_t p = 0; p < s.planes; ++p)
    for (int64_t i = 0; i < s.to_height; ++i)
      for (int64_t j = 0; j < s.to_width; ++j) {
        const Taps down = resize_taps(i, s.height, s.to_height, s.cubic), right = resize_taps(j, s.width, s.to_width, s.cubic);
        for (int k = 0; k < 4; ++k)
          for (int l = 0; l < 4; ++l)
            body((p * s.height + down.at[k]) * s.width + right.at[l], (p * s.to_height + i) * s.to_width + j, down.weight[k] * right.weight[l]);
      }
}

template <class T> void resize_forward_reference(const T* x, T* y, const ResizeShape& s) {
  std::fill(y, y + s.planes * s.to_height * s.to_width, T(0));
  each_tap(s, [&](int64_t in, int64_t out, double weight) { y[out] += static_cast<T>(weight) * x[in]; });
}

template <class T> void resize_backward_reference(const T* dy, T* dx, const ResizeShape& s) {
  std::fill(dx, dx + s.planes * s.height * s.width, T(0));
  each_tap(s, [&](int64_t in, int64_t out, double weight) { dx[in] += static_cast<T>(weight) * dy[out]; });
}

template void resize_forward_reference(const float*, float*, const ResizeShape&);
template void resize_forward_reference(const double*, double*, const ResizeShape&);
template void resize_backward_reference(const float*, float*, const ResizeShape&);
template void resize_backward_reference(const double*, double*, const ResizeShape&);
