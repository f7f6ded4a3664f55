// y = silu(gate) * up, elementwise; same shapes. Source: Shazeer 2020.
// Gradients, s = sigmoid(gate): dgate = dy up s (1 + gate (1 - s)), dup = dy gate s.
// Aliasing: y may be gate or up; dgate and dup may be dy, gate or up, but not each other.
#pragma once
#include "floats.h"

void swiglu_forward(const Floats& gate, const Floats& up, const Floats& y, int64_t n, int threads);
void swiglu_backward(const Floats& dy, const Floats& gate, const Floats& up, const Floats& dgate, const Floats& dup, int64_t n, int threads);

template <class T> void swiglu_forward_reference(const T* gate, const T* up, T* y, int64_t n);
template <class T> void swiglu_backward_reference(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t n);
