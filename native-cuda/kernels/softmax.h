// Softmax over the last dimension: y = exp(x - max x) / sum exp(x - max x); dx = y * (dy - sum(dy * y)).
// x, y, dy, dx: (rows, cols) row-major; y may be x, dx may be dy. A row of nothing but -infinity gives NaN, as the formula does.
// Kernels: softmax_forward [x, y]     softmax_backward [dy, y, dx]
#pragma once
#include "floats.h"

template <class T> void softmax_forward_reference(const T* x, T* y, int64_t rows, int64_t cols);
template <class T> void softmax_backward_reference(const T* dy, const T* y, T* dx, int64_t rows, int64_t cols);

void softmax_forward(const Floats& x, const Floats& y, int64_t rows, int64_t cols, int threads);
void softmax_backward(const Floats& dy, const Floats& y, const Floats& dx, int64_t rows, int64_t cols, int threads);
