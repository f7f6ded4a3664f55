#include "gemm_tiles.h"

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "tiles.h"

namespace {
constexpr int64_t kEnoughTiles = 16;               // keeps eight threads busy within a sixteenth
constexpr int64_t kSmallTile = int64_t{1} << 20;   // multiply-adds, about 10 us: below, a task costs more than it saves
constexpr int64_t kMaxRows = 256, kMaxCols = 512;  // one tile's C and its panels stay in the second-level cache
constexpr int64_t kMinSide = 48;                   // narrower tiles leave vector lanes empty
constexpr int64_t kMinDepth = 1024;

int64_t halved(int64_t side) { return (side / 2 + 15) / 16 * 16; }

OCTAVO_CLONES void add_row(float* c, const float* partial, int64_t n) {
  for (int64_t j = 0; j < n; ++j) c[j] += partial[j];
}
}  // namespace

GemmCut gemm_cut(int64_t m, int64_t n, int64_t k) {
  GemmCut cut{std::min(m, kMaxRows), std::min(n, kMaxCols), k};
  const auto tiles = [&] { return tile_count(m, cut.rows) * tile_count(n, cut.cols); };
  while (tiles() < kEnoughTiles && cut.rows * cut.cols * k > 2 * kSmallTile) {
    int64_t& side = cut.rows >= cut.cols ? cut.rows : cut.cols;
    if (side < 2 * kMinSide) break;
    side = halved(side);
  }
  const int64_t chunks = std::min(kEnoughTiles / tiles(), k / kMinDepth);
  if (chunks > 1) cut.depth = tile_count(k, chunks);
  return cut;
}

void gemm_tiled(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                float* c, int64_t ldc, int threads, const std::function<void(int64_t, int64_t, int64_t, int64_t)>& finish) {
  if (m == 0 || n == 0) return;
  const GemmCut cut = gemm_cut(m, n, k);
  const int64_t tiles_n = tile_count(n, cut.cols), tiles_mn = tile_count(m, cut.rows) * tiles_n;
  const int64_t chunks = std::max<int64_t>(1, tile_count(k, std::max<int64_t>(1, cut.depth)));
  std::vector<float> partial(static_cast<size_t>((chunks - 1) * m * n));  // chunk 0 writes C itself

  const auto tile_of = [&](int64_t tile, auto&& body) {
    const int64_t i0 = tile / tiles_n * cut.rows, j0 = tile % tiles_n * cut.cols;
    body(i0, std::min(cut.rows, m - i0), j0, std::min(cut.cols, n - j0));
  };
  parallel_tiles(tiles_mn * chunks, threads, [&](int64_t task) {
    const int64_t chunk = task / tiles_mn, l0 = chunk * cut.depth, depth = std::min(cut.depth, k - l0);
    tile_of(task % tiles_mn, [&](int64_t i0, int64_t rows, int64_t j0, int64_t cols) {
      float* out = chunk == 0 ? c + i0 * ldc + j0 : partial.data() + (chunk - 1) * m * n + i0 * n + j0;
      sgemm(ta, tb, rows, cols, depth, 1.0f, ta ? a + l0 * lda + i0 : a + i0 * lda + l0, lda,
            tb ? b + j0 * ldb + l0 : b + l0 * ldb + j0, ldb, 0.0f, out, chunk == 0 ? ldc : n);
      if (chunks == 1 && finish) finish(i0, rows, j0, cols);
    });
  });
  if (chunks == 1) return;
  parallel_tiles(tiles_mn, threads, [&](int64_t tile) {
    tile_of(tile, [&](int64_t i0, int64_t rows, int64_t j0, int64_t cols) {
      for (int64_t chunk = 1; chunk < chunks; ++chunk)
        for (int64_t i = i0; i < i0 + rows; ++i) add_row(c + i * ldc + j0, partial.data() + (chunk - 1) * m * n + i * n + j0, cols);
      if (finish) finish(i0, rows, j0, cols);
    });
  });
}
