#include "row_reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

template <class T> static T row_logsumexp(const T* x, int64_t cols) {
  const T least = -std::numeric_limits<T>::infinity();
  const T peak = cols == 0 ? least : *std::max_element(x, x + cols);
  if (std::isinf(peak)) return peak;  // -inf - -inf has no value
  T sum = 0;
  for (int64_t c = 0; c < cols; ++c) sum += std::exp(x[c] - peak);
  return peak + std::log(sum);
}

template <class T> void logsumexp_forward_reference(const T* x, T* y, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) y[r] = row_logsumexp(x + r * cols, cols);
}

template <class T> void logsumexp_backward_reference(const T* dy, const T* x, const T* y, T* dx, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const T v = x[r * cols + c];
      dx[r * cols + c] = y[r] == -std::numeric_limits<T>::infinity() ? T(0) : dy[r] * std::exp(v - y[r]);
    }
}

template <class T> void row_norm_forward_reference(const T* x, T* y, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    T sum = 0;
    for (int64_t c = 0; c < cols; ++c) sum += x[r * cols + c] * x[r * cols + c];
    y[r] = std::sqrt(sum);
  }
}

template <class T> void row_norm_backward_reference(const T* dy, const T* x, const T* y, T* dx, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) dx[r * cols + c] = y[r] == 0 ? T(0) : dy[r] * x[r * cols + c] / y[r];
}

template <class T> void log_softmax_forward_reference(const T* x, T* y, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const T lse = row_logsumexp(x + r * cols, cols);
    for (int64_t c = 0; c < cols; ++c) y[r * cols + c] = x[r * cols + c] - lse;
  }
}

template <class T> void log_softmax_backward_reference(const T* dy, const T* y, T* dx, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    T sum = 0;
    for (int64_t c = 0; c < cols; ++c) sum += dy[r * cols + c];
    for (int64_t c = 0; c < cols; ++c) dx[r * cols + c] = dy[r * cols + c] - std::exp(y[r * cols + c]) * sum;
  }
}

#define INSTANTIATE(T)                                                                             \
  template void logsumexp_forward_reference(const T*, T*, int64_t, int64_t);                       \
  template void logsumexp_backward_reference(const T*, const T*, const T*, T*, int64_t, int64_t);  \
  template void row_norm_forward_reference(const T*, T*, int64_t, int64_t);                        \
  template void row_norm_backward_reference(const T*, const T*, const T*, T*, int64_t, int64_t);   \
  template void log_softmax_forward_reference(const T*, T*, int64_t, int64_t);                     \
  template void log_softmax_backward_reference(const T*, const T*, T*, int64_t, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
