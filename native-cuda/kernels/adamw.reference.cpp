#include "adamw.h"

#include <cmath>

template <class T> void adamw_reference(T* p, const T* g, T* m, T* v, int64_t n, const AdamWStep& o) {
  const T beta1 = static_cast<T>(o.beta1), beta2 = static_cast<T>(o.beta2), eps = static_cast<T>(o.eps);
  const T lr = static_cast<T>(o.learning_rate), decay = static_cast<T>(o.weight_decay), scale = static_cast<T>(o.grad_scale);
  const T rest1 = static_cast<T>(1 - o.beta1), rest2 = static_cast<T>(1 - o.beta2);  // from f64: 1 - 0.999f has 4 digits
  const T correction1 = static_cast<T>(1 - std::pow(o.beta1, o.step)), correction2 = static_cast<T>(1 - std::pow(o.beta2, o.step));
  for (int64_t i = 0; i < n; ++i) {
    const T gradient = scale * g[i];
    p[i] -= lr * decay * p[i];
    m[i] = beta1 * m[i] + rest1 * gradient;
    v[i] = beta2 * v[i] + rest2 * gradient * gradient;
    p[i] -= lr * (m[i] / correction1) / (std::sqrt(v[i] / correction2) + eps);
  }
}

template void adamw_reference(float*, const float*, float*, float*, int64_t, const AdamWStep&);
template void adamw_reference(double*, const double*, double*, double*, int64_t, const AdamWStep&);
