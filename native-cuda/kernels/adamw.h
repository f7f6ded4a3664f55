// One AdamW step in place. p, g, m, v of one shape; m and v start as zeros; step counts from 1.
//   p -= lr * decay * p;  g' = grad_scale * g;  m = b1 m + (1 - b1) g';  v = b2 v + (1 - b2) g'^2
//   p -= lr * (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + eps)
// Source: Loshchilov and Hutter 2019. g is read only and must not overlap p, m or v.
#pragma once
#include <cstdint>

struct AdamWStep {
  double learning_rate, beta1, beta2, eps, weight_decay, step, grad_scale;
};

void adamw(float* p, const float* g, float* m, float* v, int64_t n, const AdamWStep& o, int threads);

template <class T> void adamw_reference(T* p, const T* g, T* m, T* v, int64_t n, const AdamWStep& o);
