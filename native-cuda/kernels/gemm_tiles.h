// A matrix product shared out over threads: C (m, n) = op(A) (m, k) * op(B) (k, n), row-major.
// GT-1: the cut depends on m, n and k alone; every tile is one `sgemm` on one thread. A long k over a small C is cut too:
//       its chunks write partial sums of their own, which are added in index order. Same bits for any number of threads.
#pragma once
#include <cstdint>
#include <functional>

struct GemmCut {
  int64_t rows, cols, depth;  // of one tile
};
GemmCut gemm_cut(int64_t m, int64_t n, int64_t k);

/// `finish(i0, rows, j0, cols)`, if given, runs on the thread of each finished tile of C, while it is warm in the cache.
void gemm_tiled(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
                float* c, int64_t ldc, int threads, const std::function<void(int64_t, int64_t, int64_t, int64_t)>& finish = {});
