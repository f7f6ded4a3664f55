#include "clamp.h"

#include <cmath>

template <class T> void clamp_forward_reference(const T* x, T* y, int64_t n, double low, double high) {
  const T least = static_cast<T>(low), most = static_cast<T>(high);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] < least ? least : x[i] > most ? most : x[i];
}

template <class T> void clamp_backward_reference(const T* dy, const T* x, T* dx, int64_t n, double low, double high) {
  const T least = static_cast<T>(low), most = static_cast<T>(high);
  for (int64_t i = 0; i < n; ++i) dx[i] = x[i] < least || x[i] > most ? T(0) : dy[i];
}

template <class T> void power_forward_reference(const T* x, T* y, int64_t n, double exponent) {
  for (int64_t i = 0; i < n; ++i) y[i] = std::pow(x[i], static_cast<T>(exponent));
}

template <class T> void power_backward_reference(const T* dy, const T* x, T* dx, int64_t n, double exponent) {
  for (int64_t i = 0; i < n; ++i)
    dx[i] = exponent == 0 ? T(0) : dy[i] * static_cast<T>(exponent) * std::pow(x[i], static_cast<T>(exponent - 1));
}

#define INSTANTIATE(T)                                                                          \
  template void clamp_forward_reference(const T*, T*, int64_t, double, double);                 \
  template void clamp_backward_reference(const T*, const T*, T*, int64_t, double, double);      \
  template void power_forward_reference(const T*, T*, int64_t, double);                         \
  template void power_backward_reference(const T*, const T*, T*, int64_t, double);
INSTANTIATE(float)
INSTANTIATE(double)
