// Slices by number along a dimension: x (outer, L, inner), index i32 (N) in [0, L) -> y (outer, N, inner),
// y[o, n] = x[o, index[n]]. With outer = 1 this is gather_rows.
// Gradient: dx[o, l] = the sum of the dy[o, n] with index[n] = l, in order of n; zero elsewhere.
// An index out of range throws std::out_of_range before anything is written. No aliasing.
#pragma once
#include "floats.h"

template <class T>
void index_select_forward(const T* x, const int32_t* index, T* y, int64_t outer, int64_t length, int64_t n, int64_t inner, int threads);
void index_select_backward(const Floats& dy, const int32_t* index, float* dx, int64_t outer, int64_t length, int64_t n, int64_t inner, int threads);

template <class T>
void index_select_forward_reference(const T* x, const int32_t* index, T* y, int64_t outer, int64_t length, int64_t n, int64_t inner);
template <class T>
void index_select_backward_reference(const T* dy, const int32_t* index, T* dx, int64_t outer, int64_t length, int64_t n, int64_t inner);
