// RMS normalisation over the last dimension: x (R, C), w (C) -> y = w (x rstd), rstd = (mean(x^2) + eps)^-1/2.
// Saves rstd (R). Source: Zhang and Sennrich 2019.
// Gradients, g = w dy: dx = rstd g - x rstd^3 mean(x g); dw = sum_R dy x rstd.
// Aliasing: y may be x; dx may be dy.
#pragma once
#include "floats.h"

void rms_norm_forward(const Floats& x, const float* w, const Floats& y, float* rstd, int64_t rows, int64_t cols, double eps, int threads);
void rms_norm_backward_input(const Floats& dy, const Floats& x, const float* w, const float* rstd, const Floats& dx, int64_t rows,
                             int64_t cols, int threads);
void rms_norm_backward_weight(const Floats& dy, const Floats& x, const float* rstd, float* dw, int64_t rows, int64_t cols, int threads);

template <class T>
void rms_norm_forward_reference(const T* x, const T* w, T* y, T* rstd, int64_t rows, int64_t cols, double eps);
template <class T>
void rms_norm_backward_input_reference(const T* dy, const T* x, const T* w, const T* rstd, T* dx, int64_t rows, int64_t cols);
template <class T>
void rms_norm_backward_weight_reference(const T* dy, const T* x, const T* rstd, T* dw, int64_t rows, int64_t cols);
