// What forward and backward of the fast attention share: blocks of queries, the keys that matter, rows of scores.
//
// Whatever hides keys by their place (causality, a window, sequences, groups) leaves each query one run of keys. Only the wrapped
// group of `roll` would need two, so displaced heads of `roll` count tokens from g/2 on, round the end: their *places* are
// tokens rolled by g/2, elsewhere places are tokens. A block of queries never crosses a sequence, a group or the end of the
// tokens, so its queries lie side by side in memory; its keys lie in one piece or, where their places wrap, in two.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>

#include "attention.h"
#include "relative_bias.h"

/// Places [first, last).
struct KeySpan {
  int64_t first, last;
  int64_t size() const { return last - first; }
};

struct QueryBlock {
  int64_t place, rows;  // of its queries
  KeySpan limits;       // keys of their sequence or group; all keys without
  int64_t sequence;     // index in the boundaries, 0 without
};

class AttentionBlocks {
 public:
  static constexpr int64_t kTallest = 128;
  AttentionBlocks(const AttentionShape& shape, const AttentionOperands<float>& x);

  const AttentionShape& shape;
  const AttentionOperands<float>& x;
  int64_t height;   // queries per block at most: height * stride scores stay in the second-level cache
  int64_t per_row;  // blocks per (batch, head) at most
  int64_t stride;   // of a row of scores: the most keys of any block, rounded up to whole vectors
  std::optional<RelativeBias> bias;

  const std::vector<QueryBlock>& of(int64_t h) const { return lists_[shape.displaced(h)]; }
  /// The token at a place.
  int64_t token(int64_t h, int64_t place) const {
    const int64_t by = rolled(h), token = place + by;
    return by > 0 && token >= shape.Nk ? token - shape.Nk : token;
  }
  const float* q(int64_t b, int64_t h, int64_t i) const { return x.q + ((b * shape.Nq + i) * shape.H + h) * shape.K; }
  const float* k(int64_t b, int64_t h, int64_t j) const { return x.k + key_offset(b, h, j); }
  const float* v(int64_t b, int64_t h, int64_t j) const { return x.v + key_offset(b, h, j); }
  int64_t q_stride() const { return shape.H * shape.K; }
  int64_t k_stride() const { return shape.KV * shape.K; }
  /// Keys that any query of the block may see: all others lie before or behind them.
  KeySpan keys(int64_t b, int64_t h, const QueryBlock& block) const;
  /// Keys among `keys` that query `row` of the block may see as far as its place goes.
  KeySpan reach(const QueryBlock& block, int64_t row, KeySpan keys) const;
  /// scores (rows, stride) = q k^T * scale + bias + key mask, column 0 being keys.first; entries outside reach() are undefined.
  void scores(int64_t b, int64_t h, const QueryBlock& block, KeySpan keys, float* out) const;
  /// Adds bias and key mask to row `row` of the block's scores, to the keys that it sees; column 0 is keys.first.
  void finish_row(int64_t b, int64_t h, const QueryBlock& block, int64_t row, KeySpan keys, float* scores) const;
  /// Index behind the last key of the batch element that is not hidden.
  int64_t visible(int64_t b) const { return visible_[b]; }
  /// body(token, column, count): the runs of memory that the places [span.first, span.last) are; one at least, column from 0.
  template <class F> void pieces(int64_t h, KeySpan span, F&& body) const {
    const int64_t end = rolled(h) ? std::clamp(shape.Nk - rolled(h), span.first, span.last) : span.last;
    if (end > span.first || span.size() == 0) body(token(h, span.first), int64_t{0}, end - span.first);
    if (span.last > end) body(token(h, end), end - span.first, span.last - end);
  }

 private:
  int64_t key_offset(int64_t b, int64_t h, int64_t j) const { return ((b * shape.Nk + j) * shape.KV + h / shape.group()) * shape.K; }
  int64_t rolled(int64_t h) const { return shape.roll && shape.displaced(h) ? shape.group_size / 2 : 0; }
  void hide();
  std::vector<QueryBlock> runs(bool displaced) const;  // whole sequences and groups, before they are cut into blocks

  std::vector<float> hidden_;     // (B, Nk): 0 or -infinity
  std::vector<int64_t> visible_;  // (B)
  std::vector<QueryBlock> lists_[2];
};
