#include "attention_blocks.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

#include "gemm.h"
#include "tiles.h"

namespace {
constexpr int64_t kBlockScores = 131072;  // 512 KiB of f32

OCTAVO_CLONES void add_row(float* scores, const float* other, int64_t n) {
  for (int64_t j = 0; j < n; ++j) scores[j] += other[j];
}
}  // namespace

AttentionBlocks::AttentionBlocks(const AttentionShape& s, const AttentionOperands<float>& operands) : shape(s), x(operands) {
  height = std::clamp<int64_t>(kBlockScores / std::max<int64_t>(1, s.Nk) / 16 * 16, 16, 128);
  per_row = tile_count(s.Nq, height);
  stride = tile_count(s.Nk, 16) * 16;
  if (x.bias_table) bias.emplace(x.bias_table, s.H, s.grid_h, s.grid_w);
  visible_.assign(static_cast<size_t>(s.B), s.Nk);
  if (!x.key_mask) return;
  hidden_.resize(static_cast<size_t>(s.B * s.Nk));
  for (int64_t b = 0; b < s.B; ++b) {
    visible_[b] = 0;
    for (int64_t j = 0; j < s.Nk; ++j) {
      const bool seen = x.key_mask[b * s.Nk + j];
      hidden_[b * s.Nk + j] = seen ? 0.0f : -std::numeric_limits<float>::infinity();
      if (seen) visible_[b] = j + 1;
    }
  }
}

int64_t AttentionBlocks::keys(int64_t b, int64_t i0, int64_t rows) const {
  return std::clamp<int64_t>(shape.reach(i0 + rows - 1), 0, visible_[b]);
}

int64_t AttentionBlocks::reach(int64_t i, int64_t keys) const { return std::clamp<int64_t>(shape.reach(i), 0, keys); }

void AttentionBlocks::scores(int64_t b, int64_t h, int64_t i0, int64_t rows, int64_t keys, float* out) const {
  sgemm(false, true, rows, keys, shape.K, static_cast<float>(shape.scale), q(b, h, i0), q_stride(), k(b, h), k_stride(), 0.0f, out, stride);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t n = reach(i0 + r, keys);
    if (bias) bias->add(h, i0 + r, out + r * stride, n);
    if (x.key_mask) add_row(out + r * stride, hidden_.data() + b * shape.Nk, n);
  }
}

float* scratch(int slot, int64_t floats) {
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  struct Buffer {
    std::unique_ptr<float, Free> data;
    int64_t floats = 0;
  };
  thread_local Buffer buffers[4];
  Buffer& buffer = buffers[slot];
  if (floats > buffer.floats) {
    const int64_t grown = tile_count(floats, 16) * 16;
    buffer.data.reset(static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(grown) * sizeof(float))));
    if (!buffer.data) throw std::bad_alloc();
    buffer.floats = grown;
  }
  return buffer.data.get();
}
