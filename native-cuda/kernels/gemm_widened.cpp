// bf16 products for machines without them: blocks of A and B are widened where the cache holds them, and sgemm sums in f32.
#include <algorithm>
#include <type_traits>

#include "../common/scratch.h"
#include "gemm.h"

namespace {
constexpr int64_t kRows = 256, kCols = 512, kDepth = 512;  // widened: 512 KiB of A, 1 MiB of B, 512 KiB of C

/// out (rows, cols), dense, from x with rows `ld` apart.
void widen_block(const Bf16* x, int64_t ld, int64_t rows, int64_t cols, float* out) {
  for (int64_t i = 0; i < rows; ++i) widen(x + i * ld, out + i * cols, cols);
}
}  // namespace

template <class Out>
void gemm_widened(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const Bf16* a, int64_t lda, const Bf16* b, int64_t ldb,
                  Out* c, int64_t ldc, const float* bias, bool add) {
  constexpr bool rounds = std::is_same_v<Out, Bf16>;
  thread_local Scratch<float> wide_a, wide_b, wide_c;
  for (int64_t j0 = 0; j0 < n; j0 += kCols) {
    const int64_t cols = std::min(kCols, n - j0);
    for (int64_t i0 = 0; i0 < m; i0 += kRows) {
      const int64_t rows = std::min(kRows, m - i0);
      float* sum;
      int64_t ld;
      if constexpr (rounds) sum = wide_c.grown(rows * cols), ld = cols;
      else sum = c + i0 * ldc + j0, ld = ldc;
      for (int64_t l0 = 0; l0 == 0 || l0 < k; l0 += kDepth) {
        const int64_t depth = std::min(kDepth, k - l0), a_ld = ta ? rows : depth, b_ld = tb ? depth : cols;
        float *left = wide_a.grown(rows * depth), *right = wide_b.grown(depth * cols);
        ta ? widen_block(a + l0 * lda + i0, lda, depth, rows, left) : widen_block(a + i0 * lda + l0, lda, rows, depth, left);
        tb ? widen_block(b + j0 * ldb + l0, ldb, cols, depth, right) : widen_block(b + l0 * ldb + j0, ldb, depth, cols, right);
        sgemm(ta, tb, rows, cols, depth, 1.0f, left, a_ld, right, b_ld, add || l0 > 0 ? 1.0f : 0.0f, sum, ld);
      }
      if (bias) add_bias(sum, ld, bias + j0, rows, cols);
      if constexpr (rounds)
        for (int64_t i = 0; i < rows; ++i) narrow(sum + i * ld, c + (i0 + i) * ldc + j0, cols);
    }
  }
}

template void gemm_widened<float>(bool, bool, int64_t, int64_t, int64_t, const Bf16*, int64_t, const Bf16*, int64_t, float*, int64_t, const float*, bool);
template void gemm_widened<Bf16>(bool, bool, int64_t, int64_t, int64_t, const Bf16*, int64_t, const Bf16*, int64_t, Bf16*, int64_t, const float*, bool);
