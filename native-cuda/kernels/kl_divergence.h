// How far the distribution of the logits is from that of a teacher's: logits (N, V), teacher (N, V) -> loss (1) =
// weight * sum over rows of sum_j p_j (log p_j - log q_j), p = softmax(teacher), q = softmax(logits). Source: Hinton et al. 2015.
// Gradient: dlogits = dloss * weight * (q - p); the teacher gets none. A class with p = 0 adds nothing. Accumulated in f64 in
// row order. V > 0 where there are rows. dlogits may be logits.
#pragma once
#include <cstdint>

double kl_divergence_forward(const float* logits, const float* teacher, int64_t rows, int64_t cols, double weight, int threads);
void kl_divergence_backward(const float* dloss, const float* logits, const float* teacher, float* dlogits, int64_t rows,
                            int64_t cols, double weight, int threads);

template <class T> double kl_divergence_forward_reference(const T* logits, const T* teacher, int64_t rows, int64_t cols, double weight);
template <class T>
void kl_divergence_backward_reference(const T* dloss, const T* logits, const T* teacher, T* dlogits, int64_t rows, int64_t cols, double weight);
