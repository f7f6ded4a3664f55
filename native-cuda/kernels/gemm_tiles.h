// A matrix product shared out over threads: C (m, n) = op(A) (m, k) * op(B) (k, n) [+ bias (n)], row-major and dense.
// GT-1: the cut depends on ta, m, n and k alone; every tile is computed on one thread. A long k over a small C is cut too: its
//       chunks write f32 sums of their own, which are added in index order. Same bits for any number of threads.
// GT-2: tiles are whole rows of C wherever that gives enough of them, so that a library sees dense matrices: oneDNN's fastest
//       kernels take nothing else. For the same reason the columns that a tile needs of a transposed A are copied side by side.
#pragma once
#include <algorithm>
#include <cstdint>

struct GemmCut {
  int64_t bands, unit;  // C falls into so many bands of rows, of about equal height: whole units, but for the last
  int64_t cols, depth;  // of one tile
  /// The first row of a band of (m) rows; m for the one behind the last.
  int64_t row(int64_t band, int64_t m) const { return std::min(m, band * ((m + unit - 1) / unit) / bands * unit); }
};
GemmCut gemm_cut(bool ta, int64_t m, int64_t n, int64_t k);

/// lda is m or k and ldb n or k, as ta and tb say. The types are those of `gemm`; bias is f32, or null.
template <class In, class Out>
void gemm_tiled(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const In* a, const In* b, Out* c, const float* bias, int threads);
