// The k largest of each row: x (R, N) -> y (R, k), at i32 (R, k), the columns they stood in; largest first, of equals the lowest
// column first, NaN before every number. 1 <= k <= N. With k = 1 this is max and argmax.
// Gradient: dx = dy at those columns, zero elsewhere. A column outside [0, N) throws std::out_of_range. No aliasing.
#pragma once
#include <cstdint>

void top_k_forward(const float* x, float* y, int32_t* at, int64_t rows, int64_t cols, int64_t k, int threads);
void top_k_backward(const float* dy, const int32_t* at, float* dx, int64_t rows, int64_t cols, int64_t k, int threads);

template <class T> void top_k_forward_reference(const T* x, T* y, int32_t* at, int64_t rows, int64_t cols, int64_t k);
template <class T> void top_k_backward_reference(const T* dy, const int32_t* at, T* dx, int64_t rows, int64_t cols, int64_t k);

/// Does column i of a row come before column j?
template <class T> struct Larger {
  const T* x;
  bool operator()(int32_t i, int32_t j) const {
    const bool no_i = x[i] != x[i], no_j = x[j] != x[j];
    if (no_i != no_j) return no_i;
    return no_i || x[i] == x[j] ? i < j : x[i] > x[j];
  }
};
