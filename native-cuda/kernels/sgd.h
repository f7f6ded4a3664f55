// One step of gradient descent with momentum, in place. p, g, m of one shape; m starts as zeros.
//   p -= lr * decay * p;  m = momentum m + grad_scale g;  p -= lr * m          (decoupled decay, as AdamW has it)
// Source: Sutskever et al. 2013, classical momentum. g is read only and must not overlap p or m.
// sgd: tensors p, g, m, scalars lr, momentum, weightDecay, gradScale.
// sgd_many: p1, g1, m1, p2, ..., numbers f64 (3) = lr, step, gradScale; scalars momentum, then a weightDecay per parameter; the
// bits of sgd (MA-1), which has no use for the step.
#pragma once
#include <cstdint>

struct SgdStep {
  double learning_rate, momentum, weight_decay, grad_scale;
};

void sgd(float* p, const float* g, float* m, int64_t n, const SgdStep& o, int threads);
/// The same for elements [0, n) on the calling thread.
void sgd_tile(float* p, const float* g, float* m, int64_t n, const SgdStep& o);

template <class T> void sgd_reference(T* p, const T* g, T* m, int64_t n, const SgdStep& o);
