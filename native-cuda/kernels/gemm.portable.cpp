// Blocked sgemm after Goto and van de Geijn 2008 (BLIS): panels of A and B are packed so that the innermost loop reads both
// in order, and an MR x NR tile of C stays in registers over the depth of a block. Compiled with -ffp-contract=fast: the
// three register tiles below each pick their own fused multiply-adds, and a machine always takes the same one.
#include <algorithm>
#include <cstring>

#include "../common/scratch.h"
#include "gemm.h"

namespace {
constexpr int64_t kDepth = 256;  // KC: one packed panel of B (256 x 32 floats, 32 KiB) lives in the first-level cache
constexpr int64_t kRows = 168;   // MC: multiple of every MR; 168 x 256 floats, 168 KiB, live in the second-level cache
constexpr int64_t kCols = 3072;  // NC: multiple of every NR

/// acc (MR, V*W) = sum over depth of a (depth, MR) * b (depth, V*W).
template <int MR, int V, int W> __attribute__((always_inline)) inline void register_tile(int64_t depth, const float* a, const float* b, float* acc) {
  typedef float Lane __attribute__((vector_size(W * sizeof(float)), aligned(4), may_alias));
  Lane sum[MR][V] = {};
  for (int64_t l = 0; l < depth; ++l, a += MR, b += V * W) {
    Lane row[V];
    for (int v = 0; v < V; ++v) row[v] = *reinterpret_cast<const Lane*>(b + v * W);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] += row[v] * a[i];
  }
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < V; ++v) *reinterpret_cast<Lane*>(acc + (i * V + v) * W) = sum[i][v];
}

struct Shape {
  int64_t mr, nr;
  void (*tile)(int64_t depth, const float* a, const float* b, float* acc);
};

void tile_default(int64_t depth, const float* a, const float* b, float* acc) { register_tile<6, 2, 4>(depth, a, b, acc); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void tile_avx2(int64_t depth, const float* a, const float* b, float* acc) { register_tile<6, 2, 8>(depth, a, b, acc); }
__attribute__((target("avx512f,fma"))) void tile_avx512(int64_t depth, const float* a, const float* b, float* acc) { register_tile<14, 2, 16>(depth, a, b, acc); }
#endif

Shape choose_shape() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return {14, 32, tile_avx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {6, 16, tile_avx2};
#endif
  return {6, 8, tile_default};
}

/// `count` vectors of length `depth` into panels of `width`, zero-padded: out[panel][l][i] = x[i * step + l * stride].
void pack(const float* x, int64_t step, int64_t stride, int64_t count, int64_t depth, int64_t width, float* out) {
  for (int64_t first = 0; first < count; first += width, out += width * depth) {
    const int64_t filled = std::min(width, count - first);
    const float* panel = x + first * step;
    if (filled < width) std::memset(out, 0, sizeof(float) * width * depth);
    if (step == 1) {
      for (int64_t l = 0; l < depth; ++l) std::memcpy(out + l * width, panel + l * stride, sizeof(float) * filled);
    } else {
      for (int64_t i = 0; i < filled; ++i)
        for (int64_t l = 0; l < depth; ++l) out[l * width + i] = panel[i * step + l * stride];
    }
  }
}

void scale_c(int64_t m, int64_t n, float beta, float* c, int64_t ldc) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = beta == 0.0f ? 0.0f : beta * c[i * ldc + j];
}
}  // namespace

void sgemm_portable(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                    const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  if (k == 0 || alpha == 0.0f) return scale_c(m, n, beta, c, ldc);
  static const Shape shape = choose_shape();
  thread_local Scratch<float> panels_a, panels_b;
  const auto padded = [](int64_t count, int64_t width) { return (count + width - 1) / width * width; };
  const int64_t depth_max = std::min(k, kDepth);
  float* packed_b = panels_b.grown(padded(std::min(n, kCols), shape.nr) * depth_max);
  float* packed_a = panels_a.grown(padded(std::min(m, kRows), shape.mr) * depth_max);
  alignas(64) float acc[14 * 32];

  for (int64_t j0 = 0; j0 < n; j0 += kCols) {
    const int64_t cols = std::min(kCols, n - j0);
    for (int64_t l0 = 0; l0 < k; l0 += kDepth) {
      const int64_t depth = std::min(kDepth, k - l0);
      const float scale_old = l0 == 0 ? beta : 1.0f;
      pack(tb ? b + j0 * ldb + l0 : b + l0 * ldb + j0, tb ? ldb : 1, tb ? 1 : ldb, cols, depth, shape.nr, packed_b);
      for (int64_t i0 = 0; i0 < m; i0 += kRows) {
        const int64_t rows = std::min(kRows, m - i0);
        pack(ta ? a + l0 * lda + i0 : a + i0 * lda + l0, ta ? 1 : lda, ta ? lda : 1, rows, depth, shape.mr, packed_a);
        for (int64_t j = 0; j < cols; j += shape.nr) {
          for (int64_t i = 0; i < rows; i += shape.mr) {
            shape.tile(depth, packed_a + i * depth, packed_b + j * depth, acc);
            const int64_t height = std::min(shape.mr, rows - i), width = std::min(shape.nr, cols - j);
            for (int64_t r = 0; r < height; ++r) {
              float* out = c + (i0 + i + r) * ldc + j0 + j;
              const float* sum = acc + r * shape.nr;
              if (scale_old == 0.0f) for (int64_t s = 0; s < width; ++s) out[s] = alpha * sum[s];
              else for (int64_t s = 0; s < width; ++s) out[s] = scale_old * out[s] + alpha * sum[s];
            }
          }
        }
      }
    }
  }
}
