#include "scale.h"

template <class T> void scale_reference(const T* x, T* y, int64_t n, double factor) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * static_cast<T>(factor);
}

template <class T> void accumulate_reference(const T* x, T* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

template void scale_reference(const float*, float*, int64_t, double);
template void scale_reference(const double*, double*, int64_t, double);
template void accumulate_reference(const float*, float*, int64_t);
template void accumulate_reference(const double*, double*, int64_t);
