#include "gemm_tiles.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "../common/scratch.h"
#include "gemm.h"
#include "tiles.h"

namespace {
constexpr int64_t kSmallTile = int64_t{1} << 20;  // multiply-adds, 5 to 20 us: below, a task costs more than it saves
constexpr int64_t kTiles = 4;  // wanted: more would make 128-row tiles of 1000 rows, and packing B again shows in them
// Every tile packs B again. bf16 GFLOP/s by rows, of 228: 256 reach 228, 128 223, 64 214, 32 199; of a transposed A, whose
// panel is copied besides, 256 reach 0.97 of what whole products do, 128 0.93, 64 0.87.
constexpr int64_t kMaxRows = 256, kMinRows = 64, kMinCols = 128;
constexpr int64_t kMinDepth = 1024;  // of a chunk: writing and adding its sums is then a fiftieth of its time
constexpr int64_t kPanelBytes = int64_t{1} << 19;  // of a copied panel of A: half of a second-level cache

int64_t rounded_up(int64_t x, int64_t step) { return tile_count(x, step) * step; }

OCTAVO_CLONES void add_row(float* c, const float* partial, int64_t n) {
  for (int64_t j = 0; j < n; ++j) c[j] += partial[j];
}

/// One product whose operands and results lie where the cut of a larger one puts them.
template <class In> struct Piece {
  bool ta, tb;
  const In *a, *b;
  int64_t lda, ldb, i0, rows, j0, cols, l0, depth;

  const In* a_at(int64_t l) const { return ta ? a + l * lda + i0 : a + i0 * lda + l; }
  const In* b_at(int64_t l) const { return tb ? b + j0 * ldb + l : b + l * ldb + j0; }
};

/// Copies the columns [i0, i0 + rows) of a transposed A, `depth` rows of them from row l, next to each other.
template <class In> const In* panel(const Piece<In>& p, int64_t l, int64_t depth) {
  thread_local Scratch<In> scratch;
  In* out = scratch.grown(depth * p.rows);
  for (int64_t d = 0; d < depth; ++d) std::memcpy(out + d * p.rows, p.a_at(l + d), static_cast<size_t>(p.rows) * sizeof(In));
  return out;
}

template <class In, class Out> void multiply(const Piece<In>& p, Out* c, int64_t ldc, const float* bias) {
  if constexpr (std::is_same_v<Out, float>) {
    if (p.ta && p.lda != p.rows && ldc == p.cols && p.depth > 0) {
      const int64_t deepest = std::max<int64_t>(8, kPanelBytes / (p.rows * static_cast<int64_t>(sizeof(In))) / 8 * 8);
      for (int64_t l = 0; l < p.depth; l += deepest) {
        const int64_t depth = std::min(deepest, p.depth - l);
        gemm(true, p.tb, p.rows, p.cols, depth, panel(p, p.l0 + l, depth), p.rows, p.b_at(p.l0 + l), p.ldb, c, ldc,
             l + depth == p.depth ? bias : nullptr, l > 0);
      }
      return;
    }
  }
  gemm(p.ta, p.tb, p.rows, p.cols, p.depth, p.a_at(p.l0), p.lda, p.b_at(p.l0), p.ldb, c, ldc, bias);
}

/// c (cols) = sum over chunks of line(chunk) (cols) + bias, in index order.
template <class Out, class F> void add_chunks(int64_t chunks, F&& line, const float* bias, Out* c, int64_t cols) {
  float* sum = line(0);
  for (int64_t chunk = 1; chunk < chunks; ++chunk) add_row(sum, line(chunk), cols);
  if (bias) add_row(sum, bias, cols);
  if constexpr (std::is_same_v<Out, Bf16>) narrow(sum, c, cols);
  else if (sum != c) std::memcpy(c, sum, static_cast<size_t>(cols) * sizeof(float));
}
}  // namespace

GemmCut gemm_cut(bool ta, int64_t m, int64_t n, int64_t k) {
  const int64_t wanted = std::clamp<int64_t>(m * n * k / kSmallTile, 1, kTiles);
  int64_t tiles = std::max(tile_count(m, kMaxRows), std::min(wanted, std::max<int64_t>(1, m / (ta ? kMaxRows : kMinRows))));
  if (tiles > kTiles) tiles = rounded_up(tiles, 4);  // an even share for 2 and 4 threads
  // To the row: 514 rows are 129, 129, 128 and 128. A panel of a transposed A begins with a line of the cache.
  GemmCut cut{tiles, ta && m >= 8 * tiles ? 8 : 1, n, k};
  if (tiles < wanted && k >= 2 * kMinDepth && (ta || n < 2 * kMinCols)) {
    const int64_t chunks = std::min(tile_count(wanted, tiles), k / kMinDepth);
    cut.depth = rounded_up(tile_count(k, chunks), 8);
    tiles *= chunks;
  }
  if (tiles < wanted && n >= 2 * kMinCols) cut.cols = rounded_up(tile_count(n, std::min(tile_count(wanted, tiles), n / kMinCols)), 16);
  return cut;
}

template <class In, class Out>
void gemm_tiled(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const In* a, const In* b, Out* c, const float* bias, int threads) {
  if (m == 0 || n == 0) return;
  const GemmCut cut = gemm_cut(ta, m, n, k);
  const int64_t tiles_n = tile_count(n, cut.cols), tiles_mn = cut.bands * tiles_n;
  const int64_t chunks = std::max<int64_t>(1, tile_count(k, std::max<int64_t>(1, cut.depth)));
  thread_local Scratch<float> scratch;
  // An f32 C is itself the first partial sum.
  constexpr bool c_is_sum = std::is_same_v<Out, float>;
  float* partial = chunks == 1 ? nullptr : scratch.grown((chunks - (c_is_sum ? 1 : 0)) * m * n);
  const auto sums = [=](int64_t chunk) -> float* {
    if constexpr (c_is_sum) return chunk == 0 ? c : partial + (chunk - 1) * m * n;
    else return partial + chunk * m * n;
  };
  parallel_tiles(tiles_mn * chunks, threads, [&](int64_t task) {
    const int64_t chunk = task / tiles_mn, tile = task % tiles_mn, l0 = chunk * cut.depth;
    const int64_t i0 = cut.row(tile / tiles_n, m), rows = cut.row(tile / tiles_n + 1, m) - i0, j0 = tile % tiles_n * cut.cols;
    const Piece<In> piece{ta, tb, a, b, ta ? m : k, tb ? k : n, i0, rows, j0, std::min(cut.cols, n - j0), l0, std::min(cut.depth, k - l0)};
    if (chunks == 1) multiply(piece, c + i0 * n + j0, n, bias ? bias + j0 : nullptr);
    else multiply(piece, sums(chunk) + i0 * n + j0, n, nullptr);
  });
  if (chunks == 1) return;
  row_tiles<kLightTile>(m, n * chunks, threads, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) add_chunks(chunks, [&](int64_t chunk) { return sums(chunk) + i * n; }, bias, c + i * n, n);
  });
}

template void gemm_tiled<float, float>(bool, bool, int64_t, int64_t, int64_t, const float*, const float*, float*, const float*, int);
template void gemm_tiled<Bf16, float>(bool, bool, int64_t, int64_t, int64_t, const Bf16*, const Bf16*, float*, const float*, int);
template void gemm_tiled<Bf16, Bf16>(bool, bool, int64_t, int64_t, int64_t, const Bf16*, const Bf16*, Bf16*, const float*, int);
