// One task per (batch, head, chunk of query blocks). Chunks exist only where batch times heads are too few to share out.
// With A recomputed from lse: dv = A^T dy, dA = dy v^T, dS = A (dA - delta), dq = dS k scale, dk = dS^T q scale, dbias = dS.
#include <algorithm>
#include <limits>
#include <vector>

#include "attention_blocks.h"
#include "gemm.h"
#include "lanes.h"
#include "tiles.h"

namespace {
constexpr int64_t kEnoughTasks = 16;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// scores[0, n) become the attention weights of the row, the rest of [0, width) zero.
OCTAVO_CLONES void weights(float* scores, int64_t n, int64_t width, float lse) {
  if (lse == kNothing) n = 0;
  for (int64_t j = 0; j < n; ++j) scores[j] = exp_f32(scores[j] - lse);
  std::fill(scores + n, scores + width, 0.0f);
}

OCTAVO_CLONES void score_gradient(const float* weight, float* gradient, int64_t n, const float* dy, const float* y, int64_t depth) {
  const float delta = row_dot(dy, y, depth);
  for (int64_t j = 0; j < n; ++j) gradient[j] = weight[j] * (gradient[j] - delta);
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
void block_gradients(const AttentionBlocks& blocks, const AttentionGradients<float>& d, int64_t b, int64_t h, int64_t i0, Target dk,
                     Target dv, float* bias_column) {
  const AttentionShape& s = blocks.shape;
  const int64_t rows = std::min(blocks.height, s.Nq - i0), keys = blocks.keys(b, i0, rows);
  const int64_t query = ((b * s.Nq + i0) * s.H + h) * s.K, stride = blocks.stride, deep = blocks.q_stride();
  const float scale = static_cast<float>(s.scale);
  const float *dy = d.dy + query, *lse = blocks.x.lse + (b * s.H + h) * s.Nq + i0;
  float *weight = scratch(0, blocks.height * stride), *gradient = scratch(1, blocks.height * stride);

  if (keys > 0) {
    blocks.scores(b, h, i0, rows, keys, weight);
    for (int64_t r = 0; r < rows; ++r) weights(weight + r * stride, blocks.reach(i0 + r, keys), keys, lse[r]);
    sgemm(true, false, keys, s.K, rows, 1.0f, weight, stride, dy, deep, 1.0f, dv.data, dv.stride);
    sgemm(false, true, rows, keys, s.K, 1.0f, dy, deep, blocks.v(b, h), blocks.k_stride(), 0.0f, gradient, stride);
    for (int64_t r = 0; r < rows; ++r) {
      score_gradient(weight + r * stride, gradient + r * stride, keys, dy + r * deep, blocks.x.y + query + r * deep, s.K);
      if (bias_column) blocks.bias->collect(i0 + r, gradient + r * stride, keys, bias_column);
    }
    sgemm(true, false, keys, s.K, rows, scale, gradient, stride, blocks.q(b, h, i0), deep, 1.0f, dk.data, dk.stride);
  }
  sgemm(false, false, rows, s.K, keys, scale, gradient, stride, blocks.k(b, h), blocks.k_stride(), 0.0f, d.dq + query, deep);
}
}  // namespace

void attention_backward(const AttentionShape& s, const AttentionOperands<float>& x, const AttentionGradients<float>& d, int threads) {
  const AttentionBlocks blocks(s, x);
  const int64_t pairs = s.B * s.H;
  std::fill_n(d.dk, s.B * s.Nk * s.KV * s.K, 0.0f);
  std::fill_n(d.dv, s.B * s.Nk * s.KV * s.K, 0.0f);
  if (pairs == 0 || blocks.per_row == 0) {
    if (d.dbias_table) std::fill_n(d.dbias_table, s.table_rows() * s.H, 0.0f);
    return;
  }
  const int64_t chunks = std::clamp<int64_t>(tile_count(kEnoughTasks, pairs), 1, blocks.per_row);
  const int64_t per_chunk = tile_count(blocks.per_row, chunks);
  KeyGradients keys(s, d, chunks);
  const int64_t table = d.dbias_table ? s.table_rows() : 0;
  std::vector<float> columns(static_cast<size_t>(s.H * s.B * chunks * table));  // (H, B, chunks, T)

  parallel_tiles(pairs * chunks, threads, [&](int64_t task) {
    const int64_t b = task / (s.H * chunks), h = task / chunks % s.H, chunk = task % chunks;
    float* column = table ? columns.data() + ((h * s.B + b) * chunks + chunk) * table : nullptr;
    for (int64_t block = chunk * per_chunk; block < std::min(blocks.per_row, (chunk + 1) * per_chunk); ++block)
      block_gradients(blocks, d, b, h, block * blocks.height, keys.dk(b, h, chunk, chunks), keys.dv(b, h, chunk, chunks), column);
  });
  keys.finish(threads);
  if (table)
    parallel_tiles(s.H, threads, [&](int64_t h) {
      blocks.bias->finish(columns.data() + h * s.B * chunks * table, s.B * chunks, table, d.dbias_table, h);
    });
}
