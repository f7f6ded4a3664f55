// Functions of one element and of numbers given with the call. Any shape; y may be x, dx may be dy.
//   clamp  y = min(max(x, low), high), low <= high; slope 1 within [low, high], both included, else 0. NaN stays NaN.
//   power  y = x^exponent; slope exponent x^(exponent - 1), 0 for exponent 0
#pragma once
#include <cstdint>

void clamp_forward(const float* x, float* y, int64_t n, double low, double high, int threads);
void clamp_backward(const float* dy, const float* x, float* dx, int64_t n, double low, double high, int threads);
void power_forward(const float* x, float* y, int64_t n, double exponent, int threads);
void power_backward(const float* dy, const float* x, float* dx, int64_t n, double exponent, int threads);

template <class T> void clamp_forward_reference(const T* x, T* y, int64_t n, double low, double high);
template <class T> void clamp_backward_reference(const T* dy, const T* x, T* dx, int64_t n, double low, double high);
template <class T> void power_forward_reference(const T* x, T* y, int64_t n, double exponent);
template <class T> void power_backward_reference(const T* dy, const T* x, T* dx, int64_t n, double exponent);
