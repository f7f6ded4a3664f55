// What forward and backward of the fast attention share: blocks of queries, the keys that matter, rows of scores.
#pragma once
#include <optional>
#include <vector>

#include "attention.h"
#include "relative_bias.h"

class AttentionBlocks {
 public:
  AttentionBlocks(const AttentionShape& shape, const AttentionOperands<float>& x);

  const AttentionShape& shape;
  const AttentionOperands<float>& x;
  int64_t height;   // queries per block: height * Nk scores stay in the second-level cache
  int64_t per_row;  // blocks per (batch, head)
  int64_t stride;   // of a row of scores: Nk rounded up to whole vectors
  std::optional<RelativeBias> bias;

  const float* q(int64_t b, int64_t h, int64_t i) const { return x.q + ((b * shape.Nq + i) * shape.H + h) * shape.K; }
  const float* k(int64_t b, int64_t h) const { return x.k + (b * shape.Nk * shape.KV + h / shape.group()) * shape.K; }
  const float* v(int64_t b, int64_t h) const { return x.v + (b * shape.Nk * shape.KV + h / shape.group()) * shape.K; }
  int64_t q_stride() const { return shape.H * shape.K; }
  int64_t k_stride() const { return shape.KV * shape.K; }
  /// Keys that any of the queries [i0, i0 + rows) of batch b may see: all others lie behind them.
  int64_t keys(int64_t b, int64_t i0, int64_t rows) const;
  /// Keys that query i may see among the first `keys`, as far as causality goes.
  int64_t reach(int64_t i, int64_t keys) const;
  /// scores (rows, stride) = q k^T * scale + bias + key mask; entries at and behind reach(i) are undefined.
  void scores(int64_t b, int64_t h, int64_t i0, int64_t rows, int64_t keys, float* out) const;

 private:
  std::vector<float> hidden_;     // (B, Nk): 0 or -infinity
  std::vector<int64_t> visible_;  // (B): index behind the last key that is not hidden
};

/// A buffer of this thread, kept for later calls; `slot` tells buffers in use at the same time apart.
float* scratch(int slot, int64_t floats);
