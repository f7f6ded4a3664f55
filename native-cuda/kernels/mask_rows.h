// Rows replaced by one learned vector: x (R, C), mask u8 (R), token (C) -> y (R, C), y[r] = mask[r] ? token : x[r].
// Gradients: dx[r] = mask[r] ? 0 : dy[r]; dtoken = the sum of dy over the masked rows. y may be x, dx may be dy.
// Source: the mask token of BEiT (Bao et al. 2021).
#pragma once
#include "floats.h"

void mask_rows_forward(const Floats& x, const uint8_t* mask, const Floats& token, const Floats& y, int64_t rows, int64_t cols, int threads);
void mask_rows_backward(const Floats& dy, const uint8_t* mask, const Floats& dx, float* dtoken, int64_t rows, int64_t cols, int threads);

template <class T>
void mask_rows_forward_reference(const T* x, const uint8_t* mask, const T* token, T* y, int64_t rows, int64_t cols);
template <class T>
void mask_rows_backward_reference(const T* dy, const uint8_t* mask, T* dx, T* dtoken, int64_t rows, int64_t cols);
