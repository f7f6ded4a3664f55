// The affine map of a layer: y (R, O) = x (R, I) * w (O, I)^T + bias (O). R is the product of the leading dimensions.
// No output may share memory with an input. Kernels (tensors; absent bias = 0):
//   linear_forward [x, w, bias | 0, y]     linear_backward_input [dy, w, dx]: dx = dy * w
//   linear_backward_weight [dy, x, dw]: dw = dy^T * x     linear_backward_bias [dy, db]: db = column sums of dy
// LI-1: x, dy, y and dx may be bf16 with w, bias, dw and db f32 or bf16. w is then narrowed to bf16 once per call; products
//       are of bf16, sums are f32, and a bf16 result is rounded once, after the bias. dw and db in f32 are never rounded.
// LI-2: fewer than 16 rows of bf16 meet an f32 w unrounded: they are widened, which is cheaper than narrowing w.
#pragma once
#include <cstdint>

template <class T> void linear_forward_reference(const T* x, const T* w, const T* bias, T* y, int64_t R, int64_t I, int64_t O);
template <class T> void linear_backward_input_reference(const T* dy, const T* w, T* dx, int64_t R, int64_t I, int64_t O);
template <class T> void linear_backward_weight_reference(const T* dy, const T* x, T* dw, int64_t R, int64_t I, int64_t O);
template <class T> void linear_backward_bias_reference(const T* dy, T* db, int64_t R, int64_t O);

// X and Y are float, or X is Bf16 and Y either. bias and db are f32.
template <class X, class Y> void linear_forward(const X* x, const X* w, const float* bias, Y* y, int64_t R, int64_t I, int64_t O, int threads);
template <class X, class Y> void linear_backward_input(const X* dy, const X* w, Y* dx, int64_t R, int64_t I, int64_t O, int threads);
template <class X, class Y> void linear_backward_weight(const X* dy, const X* x, Y* dw, int64_t R, int64_t I, int64_t O, int threads);
template <class X> void linear_backward_bias(const X* dy, float* db, int64_t R, int64_t O, int threads);
