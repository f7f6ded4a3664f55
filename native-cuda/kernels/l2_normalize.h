// Rows of unit length: x (R, C) -> y = x / n, n = max(|x|, 1e-12); saves n as norm (R).
// Gradient: dx = (dy - y (y . dy)) / n. Aliasing: y may be x; dx may be dy.
#pragma once
#include "floats.h"

inline constexpr double kSmallestNorm = 1e-12;

void l2_normalize_forward(const Floats& x, const Floats& y, float* norm, int64_t rows, int64_t cols, int threads);
void l2_normalize_backward(const Floats& dy, const Floats& y, const float* norm, const Floats& dx, int64_t rows, int64_t cols, int threads);

template <class T> void l2_normalize_forward_reference(const T* x, T* y, T* norm, int64_t rows, int64_t cols);
template <class T>
void l2_normalize_backward_reference(const T* dy, const T* y, const T* norm, T* dx, int64_t rows, int64_t cols);
