// Rotary position embedding, half-split pairing: x (B, N, H*K), positions i32 (B, N), frequency (K/2) -> y like x.
//   angle = position * frequency[i];  y[i] = x[i] cos - x[i + K/2] sin;  y[i + K/2] = x[i + K/2] cos + x[i] sin
// direction +1 turns forward; -1 turns back, which is also the gradient. Angles in f32 (f64 in the f64 twin).
// Aliasing: y may be x. Source: Su et al. 2021, in the pairing of the Llama checkpoints.
#pragma once
#include "floats.h"

void rope(const Floats& x, const int32_t* positions, const float* frequency, const Floats& y, int64_t tokens, int64_t heads,
          int64_t head_width, int direction, int threads);

template <class T>
void rope_reference(const T* x, const int32_t* positions, const T* frequency, T* y, int64_t tokens, int64_t heads,
                    int64_t head_width, int direction);
