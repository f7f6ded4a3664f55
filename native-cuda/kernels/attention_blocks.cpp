#include "attention_blocks.h"

#include <algorithm>
#include <limits>

#include "gemm.h"
#include "tiles.h"

namespace {
constexpr int64_t kBlockScores = 131072;  // 512 KiB of f32

OCTAVO_CLONES void add_row(float* scores, const float* other, int64_t n) {
  for (int64_t j = 0; j < n; ++j) scores[j] += other[j];
}
}  // namespace

AttentionBlocks::AttentionBlocks(const AttentionShape& s, const AttentionOperands<float>& operands) : shape(s), x(operands) {
  visible_.assign(static_cast<size_t>(s.B), s.Nk);
  if (x.bias_table) bias.emplace(x.bias_table, s.H, s.grid_h, s.grid_w);
  if (x.key_mask) hide();
  const std::vector<QueryBlock> whole[2] = {runs(false), s.group_size > 0 ? runs(true) : std::vector<QueryBlock>()};
  int64_t widest = 0;
  for (const auto& list : whole)
    for (const QueryBlock& run : list) widest = std::max(widest, run.limits.size());
  if (s.window > 0) widest = std::min(widest, s.window + kTallest - 1);
  height = std::clamp<int64_t>(kBlockScores / std::max<int64_t>(1, widest) / 16 * 16, 16, kTallest);
  stride = tile_count(widest, 16) * 16;
  per_row = 0;
  for (int which = 0; which < 2; ++which) {
    for (const QueryBlock& run : whole[which])
      for (int64_t done = 0; done < run.rows; done += height)
        lists_[which].push_back({run.place + done, std::min(height, run.rows - done), run.limits, run.sequence});
    per_row = std::max<int64_t>(per_row, static_cast<int64_t>(lists_[which].size()));
  }
}

void AttentionBlocks::hide() {
  hidden_.resize(static_cast<size_t>(shape.B * shape.Nk));
  for (int64_t b = 0; b < shape.B; ++b) {
    visible_[b] = 0;
    for (int64_t j = 0; j < shape.Nk; ++j) {
      const bool seen = x.key_mask[b * shape.Nk + j];
      hidden_[b * shape.Nk + j] = seen ? 0.0f : -std::numeric_limits<float>::infinity();
      if (seen) visible_[b] = j + 1;
    }
  }
}

std::vector<QueryBlock> AttentionBlocks::runs(bool displaced) const {
  std::vector<QueryBlock> runs;
  const int64_t g = shape.group_size;
  if (shape.sequences > 0) {
    for (int64_t s = 0; s < shape.sequences; ++s) runs.push_back({x.boundaries[s], x.boundaries[s + 1] - x.boundaries[s], {x.boundaries[s], x.boundaries[s + 1]}, s});
  } else if (g == 0) {
    runs.push_back({0, shape.Nq, {0, shape.Nk}, 0});
  } else if (!displaced) {
    for (int64_t at = 0; at < shape.Nk; at += g) runs.push_back({at, g, {at, at + g}, 0});
  } else if (!shape.roll) {
    for (int64_t at = -g / 2; at < shape.Nk; at += g) {
      const int64_t first = std::max<int64_t>(0, at), last = std::min(shape.Nk, at + g);
      if (last > first) runs.push_back({first, last - first, {first, last}, 0});
    }
  } else {
    for (int64_t at = 0; at < shape.Nk; at += g) {
      const bool wraps = at + g == shape.Nk;  // the queries before and those behind the end of the tokens
      runs.push_back({at, wraps ? g / 2 : g, {at, at + g}, 0});
      if (wraps) runs.push_back({at + g / 2, g / 2, {at, at + g}, 0});
    }
  }
  return runs;
}

KeySpan AttentionBlocks::reach(const QueryBlock& block, int64_t row, KeySpan keys) const {
  if (!shape.causal) return keys;
  const int64_t position = shape.position(block.place + row);
  const int64_t last = std::clamp(position + 1, keys.first, keys.last);
  return {shape.window > 0 ? std::clamp(position - shape.window + 1, keys.first, last) : keys.first, last};
}

KeySpan AttentionBlocks::keys(int64_t b, int64_t h, const QueryBlock& block) const {
  KeySpan all = block.limits;
  if (rolled(h) == 0) all.last = std::clamp(visible_[b], all.first, all.last);
  return {reach(block, 0, all).first, reach(block, block.rows - 1, all).last};
}

void AttentionBlocks::scores(int64_t b, int64_t h, const QueryBlock& block, KeySpan keys, float* out) const {
  const int64_t i0 = token(h, block.place);
  pieces(h, keys, [&](int64_t j, int64_t column, int64_t n) {
    sgemm(false, true, block.rows, n, shape.K, static_cast<float>(shape.scale), q(b, h, i0), q_stride(), k(b, h, j), k_stride(), 0.0f, out + column, stride);
  });
  for (int64_t r = 0; r < block.rows; ++r) finish_row(b, h, block, r, keys, out + r * stride);
}

void AttentionBlocks::finish_row(int64_t b, int64_t h, const QueryBlock& block, int64_t r, KeySpan keys, float* scores) const {
  if (!bias && !x.key_mask) return;
  const KeySpan seen = reach(block, r, keys);
  float* row = scores + (seen.first - keys.first);
  if (bias) bias->add(h, token(h, block.place) + r, row, seen.size());
  if (x.key_mask) pieces(h, seen, [&](int64_t j, int64_t column, int64_t n) { add_row(row + column, hidden_.data() + b * shape.Nk + j, n); });
}
