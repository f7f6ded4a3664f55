#include "softmax.h"

#include <algorithm>
#include <cmath>

template <class T> void softmax_forward_reference(const T* x, T* y, int64_t rows, int64_t cols) {
  if (cols == 0) return;
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    const T peak = *std::max_element(x, x + cols);  // exp of at most 0 cannot overflow
    T total = 0;
    for (int64_t c = 0; c < cols; ++c) total += (y[c] = std::exp(x[c] - peak));
    for (int64_t c = 0; c < cols; ++c) y[c] /= total;
  }
}

template <class T> void softmax_backward_reference(const T* dy, const T* y, T* dx, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, dy += cols, y += cols, dx += cols) {
    T dot = 0;
    for (int64_t c = 0; c < cols; ++c) dot += dy[c] * y[c];
    for (int64_t c = 0; c < cols; ++c) dx[c] = y[c] * (dy[c] - dot);
  }
}

template void softmax_forward_reference<float>(const float*, float*, int64_t, int64_t);
template void softmax_forward_reference<double>(const double*, double*, int64_t, int64_t);
template void softmax_backward_reference<float>(const float*, const float*, float*, int64_t, int64_t);
template void softmax_backward_reference<double>(const double*, const double*, double*, int64_t, int64_t);
