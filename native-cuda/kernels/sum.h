// sum_all: x (any) -> y (1).  sum_all_backward: dy (1) -> dx, every element dy.
// sum_squares: x1 .. xn of any shapes -> y[first + i] = the sum of xi^2, y f64 whatever x is; the terms of a global norm, one per
// parameter, the same bits however many share a call.
// Accumulated in f64, tile by tile, tiles added in index order. An empty x gives 0.
#pragma once
#include <cstdint>

double sum_all(const float* x, int64_t n, int threads);
void sum_all_backward(const float* dy, float* dx, int64_t n, int threads);

template <class T> double sum_all_reference(const T* x, int64_t n);
template <class T> void sum_all_backward_reference(const T* dy, T* dx, int64_t n);
template <class T> double sum_squares_reference(const T* x, int64_t n);
