#include "swiglu.h"

#include <cmath>

template <class T> static T logistic(T v) { return v >= 0 ? 1 / (1 + std::exp(-v)) : std::exp(v) / (1 + std::exp(v)); }

template <class T> void swiglu_forward_reference(const T* gate, const T* up, T* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = gate[i] * logistic(gate[i]) * up[i];
}

template <class T> void swiglu_backward_reference(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const T d = dy[i], g = gate[i], u = up[i], s = logistic(g);
    dgate[i] = d * u * s * (1 + g * (1 - s));
    dup[i] = d * g * s;
  }
}

template void swiglu_forward_reference(const float*, const float*, float*, int64_t);
template void swiglu_forward_reference(const double*, const double*, double*, int64_t);
template void swiglu_backward_reference(const float*, const float*, const float*, float*, float*, int64_t);
template void swiglu_backward_reference(const double*, const double*, const double*, double*, double*, int64_t);
