// The canonical sum: [0, n) splits in the middle (the first half is the larger one), each half again, left + right. It is the tree of
// runtime/autograd/gradient-tree.ts, so ranks that summed subtrees of microbatches and then each other's get the single process' bits.
// TR-1: an element's bits depend on the operands alone: not on how the elements are cut, shared out or carried.
// TR-2: bf16 is summed in f32 and rounded once, at the root.
#pragma once
#include <cstdint>

#include "../common/tensor_view.h"

/// f64, f32, bf16, i64 and i32 (these two wrap around).
bool tree_sums(DType dtype);
/// y[0, n) = the sum of x[0][0, n), ..., x[count - 1][0, n). y may be one of them. count >= 1.
void tree_sum(DType dtype, const void* const* x, int count, void* y, int64_t n);
