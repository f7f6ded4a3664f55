// y = a op b as 1 or 0 in u8, with the broadcasting of broadcast.h: eq, ne, lt, le, gt, ge. a and b are both f32, f64 or i32.
// A comparison with NaN is 0, except for ne, where it is 1.
// where: y = mask ? a : b. mask u8 or bool, a, b and y of one dtype of 4 or 8 bytes; all three broadcast to y. Bits are moved,
// not computed, so a NaN that is not chosen does no harm. y may be an operand of the same shape.
#pragma once
#include "../common/tensor_view.h"

#define OCTAVO_COMPARISONS(each) each(eq, ==) each(ne, !=) each(lt, <) each(le, <=) each(gt, >) each(ge, >=)

#define OCTAVO_DECLARE_COMPARISON(name, op)                                                    \
  void name(const TensorView& a, const TensorView& b, const TensorView& y, int threads);       \
  template <class T> void name##_reference(const TensorView& a, const TensorView& b, const TensorView& y);
OCTAVO_COMPARISONS(OCTAVO_DECLARE_COMPARISON)
#undef OCTAVO_DECLARE_COMPARISON

void where(const TensorView& mask, const TensorView& a, const TensorView& b, const TensorView& y, int threads);
template <class T> void where_reference(const TensorView& mask, const TensorView& a, const TensorView& b, const TensorView& y);
