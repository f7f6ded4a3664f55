// Layer normalisation over the last dimension: x (R, C), w (C), b (C) -> y = w xhat + b, xhat = (x - mean) rstd,
// rstd = (var + eps)^-1/2 with the biased variance. Saves mean (R) and rstd (R). Source: Ba et al. 2016.
// Gradients, g = w dy: dx = rstd (g - mean(g) - xhat mean(g xhat)); dw = sum_R dy xhat; db = sum_R dy.
// Aliasing: y may be x; dx may be dy. Statistics are f32 (f64 in the f64 twin); the variance is taken about the mean.
#pragma once
#include "floats.h"

void layer_norm_forward(const Floats& x, const float* w, const float* b, const Floats& y, float* mean, float* rstd, int64_t rows,
                        int64_t cols, double eps, int threads);
void layer_norm_backward_input(const Floats& dy, const Floats& x, const float* w, const float* mean, const float* rstd,
                               const Floats& dx, int64_t rows, int64_t cols, int threads);
void layer_norm_backward_affine(const Floats& dy, const Floats& x, const float* mean, const float* rstd, float* dw, float* db,
                                int64_t rows, int64_t cols, int threads);

template <class T>
void layer_norm_forward_reference(const T* x, const T* w, const T* b, T* y, T* mean, T* rstd, int64_t rows, int64_t cols, double eps);
template <class T>
void layer_norm_backward_input_reference(const T* dy, const T* x, const T* w, const T* mean, const T* rstd, T* dx, int64_t rows, int64_t cols);
template <class T>
void layer_norm_backward_affine_reference(const T* dy, const T* x, const T* mean, const T* rstd, T* dw, T* db, int64_t rows, int64_t cols);
