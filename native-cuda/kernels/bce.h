// Binary cross-entropy on logits (N), labels i32 (N) of 0 or 1: loss (1) = weight * sum of softplus(z) - label * z.
// A label of -100 is left out: no loss, zero gradient. Gradient: dlogits = dloss * weight * (sigmoid(z) - label).
// Any other label throws std::out_of_range. The loss is accumulated in f64 in index order. dlogits may be logits.
#pragma once
#include <cstdint>

double bce_forward(const float* logits, const int32_t* labels, int64_t n, double weight, int threads);
void bce_backward(const float* dloss, const float* logits, const int32_t* labels, float* dlogits, int64_t n, double weight, int threads);

template <class T> double bce_forward_reference(const T* logits, const int32_t* labels, int64_t n, double weight);
template <class T>
void bce_backward_reference(const T* dloss, const T* logits, const int32_t* labels, T* dlogits, int64_t n, double weight);
