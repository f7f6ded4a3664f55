// Cross-entropy over rows of logits (N, V) with labels i32 (N): loss (1) = weight * sum over rows of lse - logit[label],
// lse (N) = log sum exp of the row. A label of -100 leaves its row out: no loss, zero gradient, lse 0.
// Gradient: dlogits = dloss * weight * (softmax - onehot). The loss is accumulated in f64 in row order.
// A label outside [0, V) other than -100 throws std::out_of_range. Aliasing: dlogits may be logits.
#pragma once
#include <cstdint>

double cross_entropy_forward(const float* logits, const int32_t* labels, float* lse, int64_t rows, int64_t cols, double weight, int threads);
void cross_entropy_backward(const float* dloss, const float* logits, const int32_t* labels, const float* lse, float* dlogits,
                            int64_t rows, int64_t cols, double weight, int threads);

template <class T>
double cross_entropy_forward_reference(const T* logits, const int32_t* labels, T* lse, int64_t rows, int64_t cols, double weight);
template <class T>
void cross_entropy_backward_reference(const T* dloss, const T* logits, const int32_t* labels, const T* lse, T* dlogits,
                                      int64_t rows, int64_t cols, double weight);
