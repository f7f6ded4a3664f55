// One task per (batch, head, block of queries): scores by sgemm, softmax row by row, y by sgemm.
#include <algorithm>
#include <cmath>
#include <limits>

#include "attention_blocks.h"
#include "gemm.h"
#include "lanes.h"
#include "tiles.h"

namespace {
constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct RowSoftmax {
  float lse, inverse;  // inverse of the denominator; 0 when nothing is seen
};

/// scores[0, n) become exp(score - peak), the rest of [0, width) zero.
OCTAVO_CLONES RowSoftmax exponentials(float* scores, int64_t n, int64_t width) {
  const float peak = row_peak(scores, n);
  if (peak == kNothing) {
    std::fill_n(scores, width, 0.0f);
    return {kNothing, 0.0f};
  }
  for (int64_t j = 0; j < n; ++j) scores[j] = exp_f32(scores[j] - peak);
  const float total = row_sum(scores, n);
  std::fill(scores + n, scores + width, 0.0f);
  return {peak + std::log(total), 1.0f / total};
}

OCTAVO_CLONES void scale_row(float* y, int64_t n, float factor) {
  for (int64_t d = 0; d < n; ++d) y[d] *= factor;
}
}  // namespace

void attention_forward(const AttentionShape& s, const AttentionOperands<float>& x, int threads) {
  const AttentionBlocks blocks(s, x);
  parallel_tiles(s.B * s.H * blocks.per_row, threads, [&](int64_t task) {
    const int64_t b = task / (s.H * blocks.per_row), h = task / blocks.per_row % s.H, i0 = task % blocks.per_row * blocks.height;
    const int64_t rows = std::min(blocks.height, s.Nq - i0), keys = blocks.keys(b, i0, rows);
    float* scores = scratch(0, blocks.height * blocks.stride);
    float* y = x.y + ((b * s.Nq + i0) * s.H + h) * s.K;
    float* lse = x.lse + (b * s.H + h) * s.Nq + i0;
    float inverse[128];  // AttentionBlocks::height at most

    if (keys > 0) blocks.scores(b, h, i0, rows, keys, scores);
    for (int64_t r = 0; r < rows; ++r) {
      const RowSoftmax row = exponentials(scores + r * blocks.stride, blocks.reach(i0 + r, keys), keys);
      lse[r] = row.lse, inverse[r] = row.inverse;
    }
    sgemm(false, false, rows, s.K, keys, 1.0f, scores, blocks.stride, blocks.v(b, h), blocks.k_stride(), 0.0f, y, blocks.q_stride());
    for (int64_t r = 0; r < rows; ++r) scale_row(y + r * blocks.q_stride(), s.K, inverse[r]);
  });
}
