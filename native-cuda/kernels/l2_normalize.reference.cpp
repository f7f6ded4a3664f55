#include "l2_normalize.h"

#include <algorithm>
#include <cmath>

template <class T> void l2_normalize_forward_reference(const T* x, T* y, T* norm, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    T squares = 0;
    for (int64_t c = 0; c < cols; ++c) squares += x[c] * x[c];
    norm[r] = std::max(std::sqrt(squares), static_cast<T>(kSmallestNorm));
    for (int64_t c = 0; c < cols; ++c) y[c] = x[c] / norm[r];
  }
}

template <class T>
void l2_normalize_backward_reference(const T* dy, const T* y, const T* norm, T* dx, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, dy += cols, y += cols, dx += cols) {
    T along = 0;
    for (int64_t c = 0; c < cols; ++c) along += y[c] * dy[c];
    for (int64_t c = 0; c < cols; ++c) dx[c] = (dy[c] - y[c] * along) / norm[r];
  }
}

#define INSTANTIATE(T)                                                                    \
  template void l2_normalize_forward_reference(const T*, T*, T*, int64_t, int64_t);       \
  template void l2_normalize_backward_reference(const T*, const T*, const T*, T*, int64_t, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
