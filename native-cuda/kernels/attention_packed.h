// What forward and backward of packed attention share. A task packs the keys of one (batch, key head) once; its blocks of queries
// go through in groups of a few rows, whose scores stay in the first-level cache between the products.
// Columns of scores start at a key whose place is a multiple of 16, so that packed rows are cut at whole vectors and pairs.
#pragma once
#include <algorithm>

#include "../common/scratch.h"
#include "attention_blocks.h"
#include "packed_products.h"
#include "tiles.h"

#ifdef OCTAVO_PACKED_PRODUCTS
constexpr int64_t kGroupRows = 24;  // a multiple of every tile's height, and even: pairs of rows never cross two groups

/// row(i), i < count, as columns of `out` (units_of(width), ld); columns up to a whole vector are zero, as are those of null rows.
template <class T, class Row> void pack_columns(int64_t count, int64_t width, uint32_t* out, int64_t ld, Row&& row) {
  for (int64_t first = 0; first < count; first += kVectorUnits) {
    const T* rows[kVectorUnits];
    for (int64_t i = 0; i < kVectorUnits; ++i) rows[i] = first + i < count ? row(first + i) : nullptr;
    pack_columns_avx512<T>(rows, width, out + first, ld);
  }
}

/// row(i), i < count, as units (units_of(count), whole_vectors(width)) of a right operand that is summed over i.
template <class T, class Row> void pack_depth(int64_t count, int64_t width, uint32_t* out, Row&& row) {
  for (int64_t first = 0; first < count; first += kPerUnit<T>, out += whole_vectors(width)) {
    const T* rows[kPerUnit<T>];
    for (int64_t i = 0; i < kPerUnit<T>; ++i) rows[i] = first + i < count ? row(first + i) : nullptr;
    pack_depth_avx512<T>(rows, width, out);
  }
}

/// The columns of scores of some queries: whole vectors from `first` on; seen are those of `keys`.
struct PackedSpan {
  PackedSpan() = default;
  explicit PackedSpan(KeySpan span)
      : keys(span), first(span.size() > 0 ? span.first / kVectorUnits * kVectorUnits : span.first), size(span.last - first), width(whole_vectors(size)) {}
  KeySpan keys{0, 0};
  int64_t first = 0, size = 0, width = 0;
  int64_t lead() const { return keys.first - first; }
};

/// Geometry without the operands of the plain f32 version: the packed ones read q, k and v themselves.
template <class T> AttentionOperands<float> rules_of(const AttentionOperands<T, float>& x) {
  return {nullptr, nullptr, nullptr, x.key_mask, x.bias_table, nullptr, x.lse, x.boundaries, x.sample_ids, x.query_lengths};
}

/// Blocks of queries of a (batch, key head) are shared out in chunks where batch times key heads alone are too few tasks.
inline int64_t query_chunks(const AttentionShape& s, const AttentionBlocks& blocks) {
  constexpr int64_t kEnoughTasks = 16;
  return std::clamp<int64_t>(tile_count(kEnoughTasks, std::max<int64_t>(1, s.B * s.KV)), 1, std::max<int64_t>(1, blocks.per_row));
}

/// Rows apart by an odd number of cache lines: a column of them does not fall into few sets of the cache.
inline int64_t apart(int64_t units) { return whole_vectors(units) | kVectorUnits; }

/// Where a call's operands lie, and the sizes that packing gives them.
template <class T> struct PackedAttention {
  PackedAttention(const AttentionShape& shape, const AttentionOperands<T, float>& operands, const AttentionBlocks& cut)
      : s(shape), x(operands), blocks(cut), depth(units_of<T>(shape.K)), left_row(whole_vectors(depth)), wide(whole_vectors(shape.K)),
        key_row(apart(shape.Nk)), score_row(apart(cut.stride + kVectorUnits)) {}
  const AttentionShape& s;
  const AttentionOperands<T, float>& x;
  const AttentionBlocks& blocks;
  int64_t depth, left_row, wide;  // units of a head's row; the same and its elements in whole vectors
  int64_t key_row, score_row;     // units from one packed row of keys, of scores to the next

  int64_t query(int64_t b, int64_t h, int64_t i) const { return ((b * s.Nq + i) * s.H + h) * s.K; }
  /// Keys that rows [first, first + rows) of a block may see, of the `keys` that the block may.
  KeySpan reach(const QueryBlock& block, KeySpan keys, int64_t first, int64_t rows) const {
    return {blocks.reach(block, first, keys).first, blocks.reach(block, first + rows - 1, keys).last};
  }
  /// Rows of a head lie far apart: no prefetcher guesses the next ones. Into the second level: apart by a power of two, they push
  /// each other out of the first.
  void fetch(const T* data, int64_t b, int64_t h, int64_t i) const {
    if (i >= s.Nq) return;
    const T* row = data + query(b, h, i);
    constexpr int64_t kLine = 64 / sizeof(T);
    for (int64_t d = 0; d < s.K; d += kLine) __builtin_prefetch(row + d, 0, 2);
  }
  /// row(place) of k or v, null where no query may look: nothing of a hidden tail is read.
  auto key_rows(const T* data, int64_t b, int64_t h) const {
    const int64_t seen = s.displaced(h) && s.roll ? s.Nk : blocks.visible(b);
    return [this, data, b, h, seen](int64_t place) -> const T* {
      return place < seen ? data + ((b * s.Nk + blocks.token(h, place)) * s.KV + h / s.group()) * s.K : nullptr;
    };
  }
};
#endif
