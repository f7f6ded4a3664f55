// y = a op b with numpy broadcasting: shapes are aligned at the right, a length of 1 (or a missing dimension) repeats.
// add, sub, mul, div: a, b, y of one dtype, rank <= 6; y has the broadcast shape. y may be an operand of the same shape.
// sum_to: the gradient of a repeat. y = x summed over the dimensions where y is 1 or missing; order fixed by the shapes.
// Everything is in terms of views, because strides are the matter here.
#pragma once
#include "../common/tensor_view.h"

void add(const TensorView& a, const TensorView& b, const TensorView& y, int threads);
void sub(const TensorView& a, const TensorView& b, const TensorView& y, int threads);
void mul(const TensorView& a, const TensorView& b, const TensorView& y, int threads);
void div(const TensorView& a, const TensorView& b, const TensorView& y, int threads);
void sum_to(const TensorView& x, const TensorView& y, int threads);

template <class T> void add_reference(const TensorView& a, const TensorView& b, const TensorView& y);
template <class T> void sub_reference(const TensorView& a, const TensorView& b, const TensorView& y);
template <class T> void mul_reference(const TensorView& a, const TensorView& b, const TensorView& y);
template <class T> void div_reference(const TensorView& a, const TensorView& b, const TensorView& y);
template <class T> void sum_to_reference(const TensorView& x, const TensorView& y);
