// Elements moved, never computed: any dtype, one dtype per call, bits kept. Input and output must not overlap.
//   slice_forward    y = x[.., start : start + length, ..] along `axis`; the length is y's
//   slice_backward   dx = dy placed at `start` along `axis`, zero elsewhere
//   concat           y = x1 .. xn (n <= 8) one after another along `axis`
//   permute          y's dimension d is x's dimension order[d]
//   write_rows       y[b, at + n, ..] = x[b, n, ..], in place: x (B, N, ..), at i32 (1), y (B, C, ..); the rest of y stays
// Fast versions copy runs: for slice and concat a run is (length along the axis) x (inner dimensions).
#pragma once
#include "../common/tensor_view.h"

void slice_forward(const TensorView& x, const TensorView& y, int axis, int64_t start, int threads);
void slice_backward(const TensorView& dy, const TensorView& dx, int axis, int64_t start, int threads);
void concat(const TensorView* x, int n, const TensorView& y, int axis, int threads);
void permute(const TensorView& x, const TensorView& y, const int* order, int threads);
void write_rows(const TensorView& x, int64_t at, const TensorView& y, int threads);

template <class T> void slice_forward_reference(const TensorView& x, const TensorView& y, int axis, int64_t start);
template <class T> void slice_backward_reference(const TensorView& dy, const TensorView& dx, int axis, int64_t start);
template <class T> void concat_reference(const TensorView* x, int n, const TensorView& y, int axis);
template <class T> void permute_reference(const TensorView& x, const TensorView& y, const int* order);
template <class T> void write_rows_reference(const TensorView& x, int64_t at, const TensorView& y);
