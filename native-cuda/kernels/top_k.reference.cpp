#include "top_k.h"

#include <algorithm>
#include <numeric>
#include <vector>

template <class T> void top_k_forward_reference(const T* x, T* y, int32_t* at, int64_t rows, int64_t cols, int64_t k) {
  std::vector<int32_t> order(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r, x += cols, y += k, at += k) {
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), Larger<T>{x});
    for (int64_t i = 0; i < k; ++i) at[i] = order[i], y[i] = x[order[i]];
  }
}

template <class T> void top_k_backward_reference(const T* dy, const int32_t* at, T* dx, int64_t rows, int64_t cols, int64_t k) {
  for (int64_t r = 0; r < rows; ++r, dy += k, at += k, dx += cols) {
    std::fill(dx, dx + cols, T(0));
    for (int64_t i = 0; i < k; ++i) dx[at[i]] = dy[i];
  }
}

#define INSTANTIATE(T)                                                                                \
  template void top_k_forward_reference(const T*, T*, int32_t*, int64_t, int64_t, int64_t);           \
  template void top_k_backward_reference(const T*, const int32_t*, T*, int64_t, int64_t, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
