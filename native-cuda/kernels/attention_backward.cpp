// Without AVX-512, and for few queries in f32. One task per (batch, head, chunk of query blocks). Chunks exist only where batch times heads are too few to share out.
// With A recomputed from lse: dv = A^T dy, dA = dy v^T, dS = A (dA - delta), dq = dS k scale, dk = dS^T q scale, dbias = dS.
// With D = dropout of A: dv = D^T dy, dS = D dA - A delta, and delta is dy . y still.
#include <algorithm>
#include <limits>
#include <vector>

#include "../common/scratch.h"
#include "attention_blocks.h"
#include "attention_dropout.h"
#include "gemm.h"
#include "lanes.h"
#include "tiles.h"

namespace {
constexpr int64_t kEnoughTasks = 16;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// scores[begin, end) become the attention weights of the row, the rest of [0, width) zero.
OCTAVO_CLONES void weights(float* scores, int64_t begin, int64_t end, int64_t width, float lse) {
  if (lse == kNothing) end = begin;
  std::fill_n(scores, begin, 0.0f);
  for (int64_t j = begin; j < end; ++j) scores[j] = exp_falling_f32(scores[j] - lse);
  std::fill(scores + end, scores + width, 0.0f);
}

OCTAVO_CLONES void score_gradient(const float* weight, float* gradient, int64_t n, const float* dy, const float* y, int64_t depth) {
  const float delta = row_dot(dy, y, depth);
  for (int64_t j = 0; j < n; ++j) gradient[j] = weight[j] * (gradient[j] - delta);
}

OCTAVO_CLONES void dropped_score_gradient(const float* weight, const float* dropped, float* gradient, int64_t n, const float* dy, const float* y, int64_t depth) {
  const float delta = row_dot(dy, y, depth);
  for (int64_t j = 0; j < n; ++j) gradient[j] = dropped[j] * gradient[j] - weight[j] * delta;
}

OCTAVO_CLONES void add_row(float* sum, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
}

struct Target {
  float* data;
  int64_t stride;
};

/// Partial dk, dv: where one (batch, key head) has a single task they are the outputs themselves.
class KeyGradients {
 public:
  KeyGradients(const AttentionShape& s, const AttentionGradients<float>& d, int64_t chunks)
      : s_(s), d_(d), parts_(chunks * s.group()), partial_(parts_ > 1 ? 2 * s.B * s.KV * parts_ * s.Nk * s.K : 0) {}

  Target dk(int64_t b, int64_t h, int64_t chunk, int64_t chunks) { return at(d_.dk, 0, b, h, chunk, chunks); }
  Target dv(int64_t b, int64_t h, int64_t chunk, int64_t chunks) { return at(d_.dv, 1, b, h, chunk, chunks); }

  /// Adds the parts of each key head in (head, chunk) order.
  void finish(int threads) {
    if (parts_ == 1) return;
    constexpr int64_t kKeys = 64;
    const int64_t blocks = tile_count(s_.Nk, kKeys);
    parallel_tiles(2 * s_.B * s_.KV * blocks, threads, [&](int64_t task) {
      const int64_t which = task / (s_.B * s_.KV * blocks), b = task / (s_.KV * blocks) % s_.B, kv = task / blocks % s_.KV;
      const int64_t first = task % blocks * kKeys, last = std::min(s_.Nk, first + kKeys);
      float* out = which == 0 ? d_.dk : d_.dv;
      for (int64_t j = first; j < last; ++j) {
        float* sum = out + ((b * s_.Nk + j) * s_.KV + kv) * s_.K;
        std::copy_n(part(which, b, kv, 0) + j * s_.K, s_.K, sum);
        for (int64_t p = 1; p < parts_; ++p) add_row(sum, part(which, b, kv, p) + j * s_.K, s_.K);
      }
    });
  }

 private:
  float* part(int64_t which, int64_t b, int64_t kv, int64_t p) {
    return partial_.data() + (((which * s_.B + b) * s_.KV + kv) * parts_ + p) * s_.Nk * s_.K;
  }
  Target at(float* out, int64_t which, int64_t b, int64_t h, int64_t chunk, int64_t chunks) {
    const int64_t kv = h / s_.group();
    if (parts_ > 1) return {part(which, b, kv, h % s_.group() * chunks + chunk), s_.K};
    return {out + (b * s_.Nk * s_.KV + kv) * s_.K, s_.KV * s_.K};
  }

  const AttentionShape& s_;
  const AttentionGradients<float>& d_;
  int64_t parts_;
  std::vector<float> partial_;  // (dk | dv, B, KV, parts, Nk, K)
};

/// One block of queries: writes its dq, adds into dk, dv and the column of the bias table.
void block_gradients(const AttentionBlocks& blocks, const AttentionDropout& dropout, const AttentionGradients<float>& d, int64_t b, int64_t h,
                     const QueryBlock& block, Target dk, Target dv, float* bias_column) {
  const AttentionShape& s = blocks.shape;
  const KeySpan keys = blocks.keys(b, h, block);
  const int64_t rows = block.rows, width = keys.size(), i0 = blocks.token(h, block.place);
  const int64_t query = ((b * s.Nq + i0) * s.H + h) * s.K, stride = blocks.stride, deep = blocks.q_stride();
  const float scale = static_cast<float>(s.scale);
  const float *dy = d.dy + query, *y = blocks.x.y + query, *lse = blocks.x.lse + (b * s.H + h) * s.Nq + i0;
  float *weight = thread_scratch<AttentionBlocks, 0>(blocks.height * stride), *gradient = thread_scratch<AttentionBlocks, 1>(blocks.height * stride);
  float* dropped = dropout ? thread_scratch<AttentionBlocks, 2>(blocks.height * stride) : weight;

  if (width > 0) {
    blocks.scores(b, h, block, keys, weight);
    for (int64_t r = 0; r < rows; ++r) {
      const KeySpan seen = blocks.reach(block, r, keys);
      weights(weight + r * stride, seen.first - keys.first, seen.last - keys.first, width, lse[r]);
      if (!dropout) continue;
      std::copy_n(weight + r * stride, width, dropped + r * stride);
      dropout.row(b, h, block, r, keys, weight + r * stride, dropped + r * stride);
    }
    blocks.pieces(h, keys, [&](int64_t j, int64_t column, int64_t n) {
      sgemm(true, false, n, s.K, rows, 1.0f, dropped + column, stride, dy, deep, 1.0f, dv.data + j * dv.stride, dv.stride);
      sgemm(false, true, rows, n, s.K, 1.0f, dy, deep, blocks.v(b, h, j), blocks.k_stride(), 0.0f, gradient + column, stride);
    });
    for (int64_t r = 0; r < rows; ++r) {
      float* row = gradient + r * stride;
      if (dropout) dropped_score_gradient(weight + r * stride, dropped + r * stride, row, width, dy + r * deep, y + r * deep, s.K);
      else score_gradient(weight + r * stride, row, width, dy + r * deep, y + r * deep, s.K);
      if (bias_column) blocks.bias->collect(i0 + r, row, width, bias_column);
    }
    blocks.pieces(h, keys, [&](int64_t j, int64_t column, int64_t n) {
      sgemm(true, false, n, s.K, rows, scale, gradient + column, stride, blocks.q(b, h, i0), deep, 1.0f, dk.data + j * dk.stride, dk.stride);
    });
  }
  blocks.pieces(h, keys, [&](int64_t j, int64_t column, int64_t n) {
    sgemm(false, false, rows, s.K, n, scale, gradient + column, stride, blocks.k(b, h, j), blocks.k_stride(), column == 0 ? 0.0f : 1.0f, d.dq + query, deep);
  });
}
}  // namespace

void attention_backward(const AttentionShape& s, const AttentionOperands<float>& x, const AttentionGradients<float>& d, int threads) {
  const AttentionBlocks blocks(s, x);
  const AttentionDropout dropout(blocks);
  const int64_t pairs = s.B * s.H;
  std::fill_n(d.dk, s.B * s.Nk * s.KV * s.K, 0.0f);
  std::fill_n(d.dv, s.B * s.Nk * s.KV * s.K, 0.0f);
  if (pairs == 0 || blocks.per_row == 0) {
    if (d.dbias_table) std::fill_n(d.dbias_table, s.table_rows() * s.H, 0.0f);
    return;
  }
  const int64_t chunks = std::clamp<int64_t>(tile_count(kEnoughTasks, pairs), 1, blocks.per_row);
  KeyGradients keys(s, d, chunks);
  const int64_t table = d.dbias_table ? s.table_rows() : 0;
  std::vector<float> columns(static_cast<size_t>(s.H * s.B * chunks * table));  // (H, B, chunks, T)

  parallel_tiles(pairs * chunks, threads, [&](int64_t task) {
    const int64_t b = task / (s.H * chunks), h = task / chunks % s.H, chunk = task % chunks;
    float* column = table ? columns.data() + ((h * s.B + b) * chunks + chunk) * table : nullptr;
    const std::vector<QueryBlock>& list = blocks.of(h);
    const auto count = static_cast<int64_t>(list.size()), per_chunk = tile_count(count, chunks);
    for (int64_t n = chunk * per_chunk; n < std::min(count, (chunk + 1) * per_chunk); ++n)
      block_gradients(blocks, dropout, d, b, h, list[n], keys.dk(b, h, chunk, chunks), keys.dv(b, h, chunk, chunks), column);
  });
  keys.finish(threads);
  if (table)
    parallel_tiles(s.H, threads, [&](int64_t h) {
      blocks.bias->finish(columns.data() + h * s.B * chunks * table, s.B * chunks, table, d.dbias_table, h);
    });
}
