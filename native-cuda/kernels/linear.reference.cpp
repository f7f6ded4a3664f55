#include "linear.h"

#include "gemm.h"

template <class T> void linear_forward_reference(const T* x, const T* w, const T* bias, T* y, int64_t R, int64_t I, int64_t O) {
  gemm_reference<T>(false, true, R, O, I, 1, x, I, w, I, 0, y, O);
  if (!bias) return;
  for (int64_t r = 0; r < R; ++r)
    for (int64_t o = 0; o < O; ++o) y[r * O + o] += bias[o];
}

template <class T> void linear_backward_input_reference(const T* dy, const T* w, T* dx, int64_t R, int64_t I, int64_t O) {
  gemm_reference<T>(false, false, R, I, O, 1, dy, O, w, I, 0, dx, I);
}

template <class T> void linear_backward_weight_reference(const T* dy, const T* x, T* dw, int64_t R, int64_t I, int64_t O) {
  gemm_reference<T>(true, false, O, I, R, 1, dy, O, x, I, 0, dw, I);
}

template <class T> void linear_backward_bias_reference(const T* dy, T* db, int64_t R, int64_t O) {
  for (int64_t o = 0; o < O; ++o) {
    T sum = 0;
    for (int64_t r = 0; r < R; ++r) sum += dy[r * O + o];
    db[o] = sum;
  }
}

#define OCTAVO_INSTANTIATE(T)                                                                                        \
  template void linear_forward_reference<T>(const T*, const T*, const T*, T*, int64_t, int64_t, int64_t);            \
  template void linear_backward_input_reference<T>(const T*, const T*, T*, int64_t, int64_t, int64_t);               \
  template void linear_backward_weight_reference<T>(const T*, const T*, T*, int64_t, int64_t, int64_t);              \
  template void linear_backward_bias_reference<T>(const T*, T*, int64_t, int64_t);
OCTAVO_INSTANTIATE(float)
OCTAVO_INSTANTIATE(double)
