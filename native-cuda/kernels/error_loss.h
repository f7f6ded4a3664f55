// Distances of predictions from targets of the same shape, added up: loss (1) = weight * sum of
//   squared_error   (pred - target)^2    dpred = dloss * weight * 2 (pred - target)
//   absolute_error  |pred - target|      dpred = dloss * weight * sign(pred - target), 0 where they are equal
// The target gets no gradient. Accumulated in f64, tile by tile. dpred may be pred.
#pragma once
#include <cstdint>

#define OCTAVO_ERROR_LOSSES(each) each(squared_error) each(absolute_error)

#define OCTAVO_DECLARE_ERROR_LOSS(name)                                                                                          \
  double name##_forward(const float* pred, const float* target, int64_t n, double weight, int threads);                          \
  void name##_backward(const float* dloss, const float* pred, const float* target, float* dpred, int64_t n, double weight, int threads); \
  template <class T> double name##_forward_reference(const T* pred, const T* target, int64_t n, double weight);                  \
  template <class T> void name##_backward_reference(const T* dloss, const T* pred, const T* target, T* dpred, int64_t n, double weight);
OCTAVO_ERROR_LOSSES(OCTAVO_DECLARE_ERROR_LOSS)
#undef OCTAVO_DECLARE_ERROR_LOSS
