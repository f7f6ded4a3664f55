// fill: y = value, any dtype.  copy: y = x, any dtype, same shape or not, same bytes.  cast: y = x as another dtype.
// Casts among f32, f64, bf16, i32 and u8: to integers toward zero, clamped to the range, NaN becomes 0; to f32 round to nearest,
// to and from bf16 through f32.
// copy: x and y must be the same memory or not overlap.
#pragma once
#include <cstdint>

template <class T> void fill(T* y, T value, int64_t n, int threads);
void copy_bytes(const void* x, void* y, int64_t bytes, int threads);
template <class From, class To> void cast(const From* x, To* y, int64_t n, int threads);

template <class T> void fill_reference(T* y, T value, int64_t n);
template <class T> void copy_reference(const T* x, T* y, int64_t n);
template <class From, class To> void cast_reference(const From* x, To* y, int64_t n);
