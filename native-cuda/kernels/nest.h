// The loops of a broadcast: operands whose shapes are aligned at the right repeat where their length is 1 or missing.
// Mergeable pairs of dimensions are merged, so that most calls are one or two loops over long runs.
// NE-1: a run lies within one tile; tiles come from the shape of y alone.
#pragma once
#include <stdexcept>

#include "arguments.h"
#include "tiles.h"

/// Strides in elements, 0 where an operand is repeated. The innermost strides are 0 or 1, and not all 0 unless the length is 1.
template <int kOperands> struct Nest {
  int rank = 0;
  int64_t dim[kMaxRank], stride[kMaxRank][kOperands];
};

/// Stride of `t` along dimension d of `full`.
inline int64_t stride_in(const TensorView& t, const TensorView& full, int d) {
  const int e = d - full.rank + t.rank;
  if (e < 0 || t.dim[e] == 1) return 0;
  int64_t stride = 1;
  for (int k = e + 1; k < t.rank; ++k) stride *= t.dim[k];
  return stride;
}

template <int kOperands> Nest<kOperands> nest_of(const TensorView* const (&operands)[kOperands], const TensorView& y) {
  Nest<kOperands> nest;
  for (int d = 0; d < y.rank; ++d) {
    if (y.dim[d] == 1) continue;
    int64_t stride[kOperands];
    for (int o = 0; o < kOperands; ++o) stride[o] = stride_in(*operands[o], y, d);
    const int k = nest.rank - 1;
    bool merge = k >= 0;
    for (int o = 0; merge && o < kOperands; ++o) merge = nest.stride[k][o] == stride[o] * y.dim[d];
    const int into = merge ? k : nest.rank++;
    nest.dim[into] = merge ? nest.dim[into] * y.dim[d] : y.dim[d];
    std::copy_n(stride, kOperands, nest.stride[into]);
  }
  if (nest.rank == 0) nest.rank = 1, nest.dim[0] = 1, std::fill_n(nest.stride[0], kOperands, int64_t{1});
  return nest;
}

/// run(offsets of the operands, their innermost strides, offset of y, n) over innermost runs, of about a tile at most.
template <int kOperands, class F>
void each_run(const TensorView* const (&operands)[kOperands], const TensorView& y, int threads, F&& run) {
  if (y.numel == 0) return;
  const Nest<kOperands> nest = nest_of(operands, y);
  const int inner = nest.rank - 1;
  const int64_t length = nest.dim[inner], piece = even_tile(length, kLightTile, 64), pieces = tile_count(length, piece);
  row_tiles<kLightTile>(y.numel / length * pieces, piece, threads, [&](int64_t first, int64_t last) {
    for (int64_t segment = first; segment < last; ++segment) {
      const int64_t row = segment / pieces, begin = segment % pieces * piece;
      int64_t rest = row, at[kOperands];
      for (int o = 0; o < kOperands; ++o) at[o] = begin * nest.stride[inner][o];
      for (int d = inner - 1; d >= 0; --d) {
        const int64_t step = rest % nest.dim[d];
        rest /= nest.dim[d];
        for (int o = 0; o < kOperands; ++o) at[o] += step * nest.stride[d][o];
      }
      run(at, nest.stride[inner], row * length + begin, std::min(piece, length - begin));
    }
  });
}

/// Offset in `t` of element `index` (row-major) of a tensor of the shape of `full`; repeated dimensions count as 0.
inline int64_t offset_in(const TensorView& t, const TensorView& full, int64_t index) {
  int64_t offset = 0, stride = 1;
  for (int d = full.rank - 1, e = t.rank - 1; d >= 0; --d, --e) {
    const int64_t at = index % full.dim[d];
    index /= full.dim[d];
    if (e < 0) continue;
    if (t.dim[e] != 1) offset += at * stride;
    stride *= t.dim[e];
  }
  return offset;
}

/// Throws unless operand `y`, the last one, has the shape to which all operands before it broadcast.
inline void check_broadcast_shape(const Arguments& a, int y) {
  const TensorView& out = a[y];
  int rank = 0;
  for (int i = 0; i < y; ++i) rank = std::max(rank, static_cast<int>(a[i].rank));
  bool fits = out.rank == rank;
  for (int d = 0; fits && d < rank; ++d) {
    int64_t length = 1;
    for (int i = 0; fits && i < y; ++i) {
      const int e = d - rank + a[i].rank;
      const int64_t n = e < 0 ? 1 : a[i].dim[e];
      fits = n == 1 || length == 1 || n == length;
      if (length == 1) length = n;
    }
    fits = fits && out.dim[d] == length;
  }
  if (fits) return;
  std::string operands;
  for (int i = 0; i < y; ++i) operands += (i == 0 ? "" : " and ") + a.name(i) + " " + shape_text(a[i]);
  throw std::invalid_argument(format("%s: %s expected the broadcast shape of %s, got %s", a.kernel(), a.name(y).c_str(),
                                     operands.c_str(), shape_text(out).c_str()));
}
