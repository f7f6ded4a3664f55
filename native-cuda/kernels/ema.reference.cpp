#include "ema.h"

template <class T> void ema_reference(T* e, const T* p, int64_t n, double decay) {
  const T keep = static_cast<T>(decay), rest = static_cast<T>(1 - decay);  // from f64: 1 - 0.9999f has 3 digits
  for (int64_t i = 0; i < n; ++i) e[i] = keep * e[i] + rest * p[i];
}

template void ema_reference(float*, const float*, int64_t, double);
template void ema_reference(double*, const double*, int64_t, double);
