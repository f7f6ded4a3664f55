// The affine map of a layer: y (R, O) = x (R, I) * w (O, I)^T + bias (O). R is the product of the leading dimensions.
// No output may share memory with an input. Kernels (tensors; absent bias = 0):
//   linear_forward [x, w, bias | 0, y]     linear_backward_input [dy, w, dx]: dx = dy * w
//   linear_backward_weight [dy, x, dw]: dw = dy^T * x     linear_backward_bias [dy, db]: db = column sums of dy
#pragma once
#include <cstdint>

template <class T> void linear_forward_reference(const T* x, const T* w, const T* bias, T* y, int64_t R, int64_t I, int64_t O);
template <class T> void linear_backward_input_reference(const T* dy, const T* w, T* dx, int64_t R, int64_t I, int64_t O);
template <class T> void linear_backward_weight_reference(const T* dy, const T* x, T* dw, int64_t R, int64_t I, int64_t O);
template <class T> void linear_backward_bias_reference(const T* dy, T* db, int64_t R, int64_t O);

void linear_forward(const float* x, const float* w, const float* bias, float* y, int64_t R, int64_t I, int64_t O, int threads);
void linear_backward_input(const float* dy, const float* w, float* dx, int64_t R, int64_t I, int64_t O, int threads);
void linear_backward_weight(const float* dy, const float* x, float* dw, int64_t R, int64_t I, int64_t O, int threads);
void linear_backward_bias(const float* dy, float* db, int64_t R, int64_t O, int threads);
