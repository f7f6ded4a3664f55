// One AdamW step in place. p, g, m, v of one shape; m and v start as zeros; step counts from 1.
//   p -= lr * decay * p;  g' = grad_scale * g;  m = b1 m + (1 - b1) g';  v = b2 v + (1 - b2) g'^2
//   p -= lr * (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + eps)
// Source: Loshchilov and Hutter 2019. g is read only and must not overlap p, m or v.
// adamw: tensors p, g, m, v, scalars lr, beta1, beta2, eps, weightDecay, step, gradScale.
// adamw_many: p1, g1, m1, v1, p2, ..., numbers f64 (3) = lr, step, gradScale; scalars beta1, beta2, eps, then a weightDecay per
// parameter; the bits of adamw (MA-1).
#pragma once
#include <cstdint>

struct AdamWStep {
  double learning_rate, beta1, beta2, eps, weight_decay, step, grad_scale;
};

void adamw(float* p, const float* g, float* m, float* v, int64_t n, const AdamWStep& o, int threads);

template <class T> void adamw_reference(T* p, const T* g, T* m, T* v, int64_t n, const AdamWStep& o);
