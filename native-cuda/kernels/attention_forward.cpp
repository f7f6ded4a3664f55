// Without AVX-512, and for few queries in f32. One task per (batch, head, block of queries): scores by sgemm, softmax row by row, y by sgemm.
#include <algorithm>
#include <cmath>
#include <limits>

#include "../common/scratch.h"
#include "attention_blocks.h"
#include "attention_dropout.h"
#include "gemm.h"
#include "lanes.h"
#include "tiles.h"

namespace {
constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct RowSoftmax {
  float lse, inverse;  // inverse of the denominator; 0 when nothing is seen
};

/// scores[begin, end) become exp(score - peak), the rest of [0, width) zero.
OCTAVO_CLONES RowSoftmax exponentials(float* scores, int64_t begin, int64_t end, int64_t width) {
  const float peak = row_peak(scores + begin, end - begin);
  if (peak == kNothing) {
    std::fill_n(scores, width, 0.0f);
    return {kNothing, 0.0f};
  }
  std::fill_n(scores, begin, 0.0f);
  for (int64_t j = begin; j < end; ++j) scores[j] = exp_falling_f32(scores[j] - peak);
  const float total = row_sum(scores + begin, end - begin);
  std::fill(scores + end, scores + width, 0.0f);
  return {peak + std::log(total), 1.0f / total};
}

OCTAVO_CLONES void scale_row(float* y, int64_t n, float factor) {
  for (int64_t d = 0; d < n; ++d) y[d] *= factor;
}
}  // namespace

void attention_forward(const AttentionShape& s, const AttentionOperands<float>& x, int threads) {
  const AttentionBlocks blocks(s, x);
  const AttentionDropout dropout(blocks);
  parallel_tiles(s.B * s.H * blocks.per_row, threads, [&](int64_t task) {
    const int64_t b = task / (s.H * blocks.per_row), h = task / blocks.per_row % s.H, n = task % blocks.per_row;
    if (n >= static_cast<int64_t>(blocks.of(h).size())) return;
    const QueryBlock& block = blocks.of(h)[n];
    const KeySpan keys = blocks.keys(b, h, block);
    const int64_t i0 = blocks.token(h, block.place), rows = block.rows;
    float* scores = thread_scratch<AttentionBlocks>(blocks.height * blocks.stride);
    float* y = x.y + ((b * s.Nq + i0) * s.H + h) * s.K;
    float* lse = x.lse + (b * s.H + h) * s.Nq + i0;
    float inverse[AttentionBlocks::kTallest];

    if (keys.size() > 0) blocks.scores(b, h, block, keys, scores);
    for (int64_t r = 0; r < rows; ++r) {
      const KeySpan seen = blocks.reach(block, r, keys);
      float* row = scores + r * blocks.stride;
      const RowSoftmax softmax = exponentials(row, seen.first - keys.first, seen.last - keys.first, keys.size());
      lse[r] = softmax.lse, inverse[r] = softmax.inverse;
      if (dropout) dropout.row(b, h, block, r, keys, row, row);
    }
    blocks.pieces(h, keys, [&](int64_t j, int64_t column, int64_t count) {
      sgemm(false, false, rows, s.K, count, 1.0f, scores + column, blocks.stride, blocks.v(b, h, j), blocks.k_stride(), column == 0 ? 0.0f : 1.0f, y, blocks.q_stride());
    });
    for (int64_t r = 0; r < rows; ++r) scale_row(y + r * blocks.q_stride(), s.K, inverse[r]);
  });
}
