#include "activation.h"

#include <cmath>

// One row per activation: value(v) of the input, slope(v) of what backward saved (the input, or the output y).
template <class T> struct Functions {
  static T logistic(T v) { return v >= 0 ? 1 / (1 + std::exp(-v)) : std::exp(v) / (1 + std::exp(v)); }
  static T below(T v) { return std::erfc(-v * T(0.70710678118654752440)) / 2; }                 // Phi
  static T density(T v) { return std::exp(-v * v / 2) * T(0.39894228040143267794); }            // phi

  static T gelu(T v) { return v * below(v); }
  static T gelu_slope(T v) { return below(v) + v * density(v); }
  static T quick_gelu(T v) { return v * logistic(T(1.702) * v); }
  static T quick_gelu_slope(T v) {
    const T s = logistic(T(1.702) * v);
    return s + T(1.702) * v * s * (1 - s);
  }
  static T silu(T v) { return v * logistic(v); }
  static T silu_slope(T v) {
    const T s = logistic(v);
    return s + v * s * (1 - s);
  }
  static T relu(T v) { return v > 0 ? v : 0; }
  static T relu_slope(T v) { return v > 0 ? 1 : 0; }
  static T tanh(T v) { return std::tanh(v); }
  static T tanh_slope(T y) { return (1 - y) * (1 + y); }
  static T sigmoid(T v) { return logistic(v); }
  static T sigmoid_slope(T y) { return y * (1 - y); }
  static T sin(T v) { return std::sin(v); }
  static T sin_slope(T v) { return std::cos(v); }
  static T cos(T v) { return std::cos(v); }
  static T cos_slope(T v) { return -std::sin(v); }
  static T exp(T v) { return std::exp(v); }
  static T exp_slope(T y) { return y; }
  static T log(T v) { return std::log(v); }
  static T log_slope(T v) { return 1 / v; }
  static T sqrt(T v) { return std::sqrt(v); }
  static T sqrt_slope(T y) { return 1 / (2 * y); }
  static T abs(T v) { return std::abs(v); }
  static T abs_slope(T v) { return (v > 0) - (v < 0); }
};

#define DEFINE(name)                                                                                    \
  template <class T> void name##_forward_reference(const T* x, T* y, int64_t n) {                       \
    for (int64_t i = 0; i < n; ++i) y[i] = Functions<T>::name(x[i]);                                    \
  }                                                                                                     \
  template <class T> void name##_backward_reference(const T* dy, const T* saved, T* dx, int64_t n) {    \
    for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * Functions<T>::name##_slope(saved[i]);               \
  }                                                                                                     \
  template void name##_forward_reference(const float*, float*, int64_t);                                \
  template void name##_forward_reference(const double*, double*, int64_t);                              \
  template void name##_backward_reference(const float*, const float*, float*, int64_t);                 \
  template void name##_backward_reference(const double*, const double*, double*, int64_t);
OCTAVO_ACTIVATIONS(DEFINE)
