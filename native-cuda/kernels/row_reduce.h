// One number per row of x (R, N), and log-softmax, which is x minus one of them:
//   logsumexp    y (R) = log sum exp x, -infinity where N is 0     dx = dy exp(x - y)
//   row_norm     y (R) = sqrt(sum x^2)                             dx = dy x / y, 0 where y is 0
//   log_softmax  y (R, N) = x - logsumexp(x)                       dx = dy - exp(y) sum(dy)
// Sums are f32 over at most 1024 numbers (squares: f64), those added in f64. log_softmax: y may be x, dx may be dy or y.
// A row of -infinity alone has the sum -infinity and gradient zero; its log-softmax is NaN.
#pragma once
#include "floats.h"

/// log sum exp of one row, for kernels that need it on the way.
double row_logsumexp(const float* x, int64_t n);

void logsumexp_forward(const Floats& x, float* y, int64_t rows, int64_t cols, int threads);
void logsumexp_backward(const float* dy, const Floats& x, const float* y, const Floats& dx, int64_t rows, int64_t cols, int threads);
void row_norm_forward(const Floats& x, float* y, int64_t rows, int64_t cols, int threads);
void row_norm_backward(const float* dy, const Floats& x, const float* y, const Floats& dx, int64_t rows, int64_t cols, int threads);
void log_softmax_forward(const Floats& x, const Floats& y, int64_t rows, int64_t cols, int threads);
void log_softmax_backward(const Floats& dy, const Floats& y, const Floats& dx, int64_t rows, int64_t cols, int threads);

template <class T> void logsumexp_forward_reference(const T* x, T* y, int64_t rows, int64_t cols);
template <class T> void logsumexp_backward_reference(const T* dy, const T* x, const T* y, T* dx, int64_t rows, int64_t cols);
template <class T> void row_norm_forward_reference(const T* x, T* y, int64_t rows, int64_t cols);
template <class T> void row_norm_backward_reference(const T* dy, const T* x, const T* y, T* dx, int64_t rows, int64_t cols);
template <class T> void log_softmax_forward_reference(const T* x, T* y, int64_t rows, int64_t cols);
template <class T> void log_softmax_backward_reference(const T* dy, const T* y, T* dx, int64_t rows, int64_t cols);
