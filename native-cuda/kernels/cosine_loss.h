// Distance in direction: pred (N, C), target (N, C) -> loss (1) = weight * sum over rows of 1 - cos(pred, target).
// Lengths are clamped below at 1e-12. Gradient, with p and t the unit rows: dpred = -dloss * weight * (t - p (p . t)) / |pred|.
// The target gets no gradient. Accumulated in f64 in row order. dpred may be pred.
#pragma once
#include <cstdint>

double cosine_loss_forward(const float* pred, const float* target, int64_t rows, int64_t cols, double weight, int threads);
void cosine_loss_backward(const float* dloss, const float* pred, const float* target, float* dpred, int64_t rows,
                          int64_t cols, double weight, int threads);

template <class T> double cosine_loss_forward_reference(const T* pred, const T* target, int64_t rows, int64_t cols, double weight);
template <class T>
void cosine_loss_backward_reference(const T* dloss, const T* pred, const T* target, T* dpred, int64_t rows, int64_t cols, double weight);
