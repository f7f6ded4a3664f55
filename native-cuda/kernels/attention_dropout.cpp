#include "attention_dropout.h"

#include <cmath>

#include "philox.h"
#include "tiles.h"

namespace {
constexpr int64_t kPiece = 2048;

/// words of whole blocks, four each.
OCTAVO_CLONES void draw(uint32_t* words, int64_t blocks, uint64_t key, uint64_t stream, uint64_t first_block) {
#pragma omp simd
  for (int64_t b = 0; b < blocks; ++b) {
    const PhiloxWords four = philox(key, stream, first_block + static_cast<uint64_t>(b));
    words[4 * b] = four[0], words[4 * b + 1] = four[1], words[4 * b + 2] = four[2], words[4 * b + 3] = four[3];
  }
}

OCTAVO_CLONES void keep(const float* x, const uint32_t* words, float* y, int64_t n, uint32_t threshold, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = x[i] * factor;
    y[i] = words[i] >= threshold ? scaled : 0.0f;
  }
}
}  // namespace

AttentionDropout::AttentionDropout(const AttentionBlocks& blocks)
    : blocks_(blocks), shape_(blocks.shape), threshold_(static_cast<uint32_t>(std::ceil(shape_.dropout.p * 0x1p32))),
      factor_(static_cast<float>(1 / (1 - shape_.dropout.p))) {}

AttentionDropout::Sample AttentionDropout::sample(int64_t b, int64_t sequence) const {
  const AttentionOperands<float>& x = blocks_.x;
  if (shape_.sequences > 0) {
    const int64_t start = x.boundaries[sequence], length = x.boundaries[sequence + 1] - start;
    return {start, length, length, x.sample_ids[sequence]};
  }
  const int64_t nk = blocks_.visible(b);
  return {0, x.query_lengths ? x.query_lengths[b] : shape_.Nq == shape_.Nk ? nk : shape_.Nq, nk, x.sample_ids[b]};
}

void AttentionDropout::row(int64_t b, int64_t h, const QueryBlock& block, int64_t row, KeySpan keys, const float* weights, float* out) const {
  const Sample s = sample(b, block.sequence);
  const int64_t i = blocks_.token(h, block.place + row) - s.start, line = ((shape_.first_head + h) * s.nq + i) * s.nk - s.start;
  const uint64_t key = shape_.dropout.key(), stream = shape_.dropout.stream(static_cast<int32_t>(s.id));
  const KeySpan seen = blocks_.reach(block, row, keys);
  uint32_t words[kPiece + 8];
  blocks_.pieces(h, seen, [&](int64_t j, int64_t column, int64_t n) {
    const int64_t at = seen.first - keys.first + column;
    for (int64_t done = 0; done < n; done += kPiece) {
      const int64_t count = std::min(kPiece, n - done);
      const auto e = static_cast<uint64_t>(line + j + done);
      draw(words, tile_count(static_cast<int64_t>(e % 4) + count, 4), key, stream, e / 4);
      keep(weights + at + done, words + e % 4, out + at + done, count, threshold_, factor_);
    }
  });
}
