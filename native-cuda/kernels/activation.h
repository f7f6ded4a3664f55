// Elementwise functions and their gradients. y = f(x); dx = dy * f'. Any shape; y may be x, dx may be dy.
// backward reads x, except for tanh, sigmoid, exp and sqrt, whose slope is cheaper from the output y.
//   gelu        x Phi(x), exact erf form (Hendrycks and Gimpel 2016)      slope Phi(x) + x phi(x)
//   quick_gelu  x s(1.702 x)                                              slope s + 1.702 x s (1 - s)
//   silu        x s(x)                                                    slope s + x s (1 - s)
//   relu        max(x, 0)                                                 slope 1 where x > 0, else 0
//   tanh, sigmoid                                                         slope 1 - y^2, y (1 - y)
//   sin, cos    radians                                                   slope cos x, -sin x
//   exp, sqrt                                                             slope y, 1 / (2 y)
//   log         natural; -inf at 0, NaN below                             slope 1 / x
//   abs                                                                   slope -1, 0 or 1: the sign of x
#pragma once
#include "floats.h"

#define OCTAVO_ACTIVATIONS(each) \
  each(gelu) each(quick_gelu) each(silu) each(relu) each(tanh) each(sigmoid) each(sin) each(cos) \
  each(exp) each(log) each(sqrt) each(abs)

#define OCTAVO_DECLARE_ACTIVATION(name)                                                                          \
  void name##_forward(const Floats& x, const Floats& y, int64_t n, int threads);                                 \
  void name##_backward(const Floats& dy, const Floats& saved, const Floats& dx, int64_t n, int threads);         \
  template <class T> void name##_forward_reference(const T* x, T* y, int64_t n);                                 \
  template <class T> void name##_backward_reference(const T* dy, const T* saved, T* dx, int64_t n);
OCTAVO_ACTIVATIONS(OCTAVO_DECLARE_ACTIVATION)
#undef OCTAVO_DECLARE_ACTIVATION
