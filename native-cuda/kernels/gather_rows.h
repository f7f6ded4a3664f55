// Rows by number: x (R, C), index i32 (N) in [0, R) -> y (N, C), y[n] = x[index[n]]. An embedding lookup is one.
// Gradient: dx (R, C) = for each row the sum of the dy rows that were read from it, added in order of n; zero elsewhere.
// An index out of range throws std::out_of_range before anything is written. No aliasing.
#pragma once
#include "floats.h"

void gather_rows_forward(const Floats& x, const int32_t* index, const Floats& y, int64_t n, int64_t cols, int threads);
void gather_rows_backward(const Floats& dy, const int32_t* index, float* dx, int64_t n, int64_t rows, int64_t cols, int threads);

template <class T> void gather_rows_forward_reference(const T* x, const int32_t* index, T* y, int64_t n, int64_t cols);
template <class T>
void gather_rows_backward_reference(const T* dy, const int32_t* index, T* dx, int64_t n, int64_t rows, int64_t cols);
