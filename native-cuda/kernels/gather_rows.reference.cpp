#include "gather_rows.h"

template <class T> void gather_rows_forward_reference(const T* x, const int32_t* index, T* y, int64_t n, int64_t cols) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < cols; ++c) y[i * cols + c] = x[index[i] * cols + c];
}

template <class T>
void gather_rows_backward_reference(const T* dy, const int32_t* index, T* dx, int64_t n, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows * cols; ++i) dx[i] = 0;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < cols; ++c) dx[index[i] * cols + c] += dy[i * cols + c];
}

#define INSTANTIATE(T)                                                                               \
  template void gather_rows_forward_reference(const T*, const int32_t*, T*, int64_t, int64_t);       \
  template void gather_rows_backward_reference(const T*, const int32_t*, T*, int64_t, int64_t, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
