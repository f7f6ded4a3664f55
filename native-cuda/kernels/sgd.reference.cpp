#include "sgd.h"

template <class T> void sgd_reference(T* p, const T* g, T* m, int64_t n, const SgdStep& o) {
  const T lr = static_cast<T>(o.learning_rate), momentum = static_cast<T>(o.momentum);
  const T decay = static_cast<T>(o.weight_decay), scale = static_cast<T>(o.grad_scale);
  for (int64_t i = 0; i < n; ++i) {
    p[i] -= lr * decay * p[i];
    m[i] = momentum * m[i] + scale * g[i];
    p[i] -= lr * m[i];
  }
}

template void sgd_reference(float*, const float*, float*, int64_t, const SgdStep&);
template void sgd_reference(double*, const double*, double*, int64_t, const SgdStep&);
