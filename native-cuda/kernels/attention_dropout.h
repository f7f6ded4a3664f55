// Dropout of attention weights (AT-7), row by row: forward and backward draw the same words again instead of keeping a mask.
#pragma once
#include "attention_blocks.h"

class AttentionDropout {
 public:
  explicit AttentionDropout(const AttentionBlocks& blocks);

  explicit operator bool() const { return shape_.dropout.p > 0; }
  /// out = weights kept and divided by 1 - p, or 0, over the keys that the row sees. Row `row` of the block; column 0 is the
  /// key keys.first. out may be weights.
  void row(int64_t b, int64_t h, const QueryBlock& block, int64_t row, KeySpan keys, const float* weights, float* out) const;

 private:
  struct Sample {
    int64_t start, nq, nk, id;
  };
  Sample sample(int64_t b, int64_t sequence) const;

  const AttentionBlocks& blocks_;
  const AttentionShape& shape_;
  uint32_t threshold_;
  float factor_;
};
