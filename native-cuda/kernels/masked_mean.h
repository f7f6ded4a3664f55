// Mean over the kept tokens of each sample: x (B, N, C), mask u8 (B, N) -> y (B, C) = sum_n mask x / sum_n mask.
// A sample that keeps no token gives 0. Gradient: dx[b, n] = mask[b, n] dy[b] / count[b]. No aliasing.
#pragma once
#include <cstdint>

void masked_mean_forward(const float* x, const uint8_t* mask, float* y, int64_t batch, int64_t tokens, int64_t cols, int threads);
void masked_mean_backward(const float* dy, const uint8_t* mask, float* dx, int64_t batch, int64_t tokens, int64_t cols, int threads);

template <class T>
void masked_mean_forward_reference(const T* x, const uint8_t* mask, T* y, int64_t batch, int64_t tokens, int64_t cols);
template <class T>
void masked_mean_backward_reference(const T* dy, const uint8_t* mask, T* dx, int64_t batch, int64_t tokens, int64_t cols);
