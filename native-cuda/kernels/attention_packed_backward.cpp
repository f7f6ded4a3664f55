// One task per (batch, key head, chunk of query blocks), for every query head of the key head in turn; its dk and dv are summed in f32,
// and the chunks' sums added in order. Chunks exist only where batch times key heads are too few to share out.
// The equations are those of attention_backward.cpp. The weights A and the score gradients dS of a block are kept as they are summed over
// its queries (bf16: in pairs of rows), while dq uses dS a few rows at a time.
#include "attention_dropout.h"
#include "attention_packed.h"
#include "packed_rows.h"
#include "tiles.h"

#ifdef OCTAVO_PACKED_PRODUCTS
#include <type_traits>
#include <utility>

namespace {
template <class T> constexpr bool narrow_of = std::is_same_v<T, Bf16>;

/// Of a thread. f32 scores of a group lie in those of the block; in bf16 they are apart.
template <class T> struct Buffers {
  Scratch<uint32_t> key_columns, value_columns, key_depth, queries, outputs, query_depth, output_depth, weights, gradients;
  Scratch<float> group_weights, group_gradients, kept, sums;
};

/// Sums of dk and dv in f32, (dk | dv, B, KV, chunks, Nk, wide).
template <class T> class KeySums {
 public:
  KeySums(const PackedAttention<T>& p, int64_t chunks) : p_(p), chunks_(chunks) {
    thread_local Scratch<float> sums;
    data_ = sums.grown(2 * p.s.B * p.s.KV * chunks * size());
  }
  int64_t size() const { return p_.s.Nk * p_.wide; }
  float* at(int64_t which, int64_t b, int64_t kv, int64_t chunk) const { return data_ + (((which * p_.s.B + b) * p_.s.KV + kv) * chunks_ + chunk) * size(); }

  /// Adds the chunks of each key head in order.
  void finish(const AttentionGradients<T, float>& d, int threads) const {
    const AttentionShape& s = p_.s;
    constexpr int64_t kKeys = 64;
    const int64_t blocks = tile_count(s.Nk, kKeys);
    parallel_tiles(2 * s.B * s.KV * blocks, threads, [&](int64_t task) {
      const int64_t which = task / (s.B * s.KV * blocks), b = task / (s.KV * blocks) % s.B, kv = task / blocks % s.KV;
      T* out = which == 0 ? d.dk : d.dv;
      for (int64_t j = task % blocks * kKeys; j < std::min(s.Nk, (task % blocks + 1) * kKeys); ++j) {
        float* sum = at(which, b, kv, 0) + j * p_.wide;
        for (int64_t chunk = 1; chunk < chunks_; ++chunk) add_row_avx512(at(which, b, kv, chunk) + j * p_.wide, sum, p_.wide);
        store_row_avx512<T>(sum, 1.0f, out + ((b * s.Nk + j) * s.KV + kv) * s.K, s.K);
      }
    });
  }

 private:
  const PackedAttention<T>& p_;
  int64_t chunks_;
  float* data_;
};

/// The gradients of one block of queries of one head.
template <class T> class BlockGradients {
 public:
  BlockGradients(const PackedAttention<T>& p, const AttentionDropout& dropout, const AttentionGradients<T, float>& d, Buffers<T>& buffers, int64_t b, int64_t h,
                 const QueryBlock& block)
      : p_(p), dropout_(dropout), d_(d), buffers_(buffers), b_(b), h_(h), block_(block), span_(p.blocks.keys(b, h, block)), i0_(p.blocks.token(h, block.place)),
        weights_(buffers.weights.grown(units_of<T>(p.blocks.height) * p.score_row)), gradients_(buffers.gradients.grown(units_of<T>(p.blocks.height) * p.score_row)) {}

  /// Writes dq, adds into dk, dv (Nk, wide) and the column of the bias table.
  void run(float* dk, float* dv, float* bias_column) {
    for (int64_t first = 0; first < block_.rows; first += kGroupRows) query_gradients(first, std::min(kGroupRows, block_.rows - first), bias_column);
    if (span_.size == 0) return;
    const int64_t units = units_of<T>(block_.rows);
    uint32_t *queries = buffers_.query_depth.grown(units * p_.wide), *outputs = buffers_.output_depth.grown(units * p_.wide);
    pack_depth<T>(block_.rows, p_.s.K, queries, [&](int64_t i) { return p_.x.q + p_.query(b_, h_, i0_ + i); });
    pack_depth<T>(block_.rows, p_.s.K, outputs, [&](int64_t i) { return d_.dy + p_.query(b_, h_, i0_ + i); });
    p_.blocks.pieces(h_, span_.keys, [&](int64_t j, int64_t column, int64_t n) {
      const int64_t step = p_.s.causal ? kKeyTile : n;
      for (int64_t done = 0; done < n; done += step) {
        const int64_t at = span_.lead() + column + done, count = std::min(step, n - done);
        const auto [first, last] = seeing(at, at + count);
        if (first >= last) continue;
        const int64_t from = first / kPerUnit<T>, depth = units_of<T>(last) - from, key = (j + done) * p_.wide;
        packed_product_avx512<T>(count, p_.wide, depth, {weights_ + from * p_.score_row + at, 1, p_.score_row}, outputs + from * p_.wide, p_.wide, 1.0f, dv + key, p_.wide, true);
        packed_product_avx512<T>(count, p_.wide, depth, {gradients_ + from * p_.score_row + at, 1, p_.score_row}, queries + from * p_.wide, p_.wide,
                                 static_cast<float>(p_.s.scale), dk + key, p_.wide, true);
      }
    });
  }

 private:
  static constexpr int64_t kKeyTile = 48;  // a multiple of every tile's height

  /// Rows of the block, in whole groups, that may see columns [begin, end); causal ones see the later keys the later they stand.
  std::pair<int64_t, int64_t> seeing(int64_t begin, int64_t end) const {
    int64_t first = 0, last = tile_count(block_.rows, kGroupRows);
    const auto reached = [&](int64_t group) { return groups_[group].keys.last - span_.first > begin && groups_[group].keys.first - span_.first < end; };
    while (first < last && !reached(first)) ++first;
    while (first < last && !reached(last - 1)) --last;
    return {first * kGroupRows, std::min(block_.rows, last * kGroupRows)};
  }

  /// Rows [first, first + rows) of the block: dq, and their weights and score gradients for the sums over queries.
  void query_gradients(int64_t first, int64_t rows, float* bias_column) {
    const AttentionShape& s = p_.s;
    const PackedSpan span = groups_[first / kGroupRows] = PackedSpan(p_.reach(block_, span_.keys, first, rows));
    const float scale = static_cast<float>(s.scale);
    const int64_t row = p_.score_row, left = p_.left_row, column = span.size > 0 ? span.first - span_.first : 0;
    float delta[kGroupRows], *weight, *gradient, *sums = buffers_.sums.grown(kGroupRows * p_.wide);
    if constexpr (narrow_of<T>) weight = buffers_.group_weights.grown(kGroupRows * row), gradient = buffers_.group_gradients.grown(kGroupRows * row);
    else weight = reinterpret_cast<float*>(weights_) + first * row + column, gradient = reinterpret_cast<float*>(gradients_) + first * row + column;
    uint32_t *queries = buffers_.queries.grown(kGroupRows * left), *outputs = buffers_.outputs.grown(kGroupRows * left);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t query = p_.query(b_, h_, i0_ + first + r), ahead = i0_ + first + r + kGroupRows;
      pack_row_avx512<T>(p_.x.q + query, s.K, queries + r * left);
      pack_row_avx512<T>(d_.dy + query, s.K, outputs + r * left);
      delta[r] = dot_avx512(d_.dy + query, p_.x.y + query, s.K);
      for (const T* next : {p_.x.q, static_cast<const T*>(p_.x.y), d_.dy}) p_.fetch(next, b_, h_, ahead);
      p_.fetch(d_.dq, b_, h_, i0_ + first + r);
    }
    packed_product_avx512<T>(rows, span.width, p_.depth, {queries, left, 1}, buffers_.key_columns.grown(0) + span.first, p_.key_row, scale, weight, row, false);
    packed_product_avx512<T>(rows, span.width, p_.depth, {outputs, left, 1}, buffers_.value_columns.grown(0) + span.first, p_.key_row, 1.0f, gradient, row, false);
    for (int64_t r = 0; r < rows; ++r) score_gradient(first + r, span, delta[r], weight + r * row, gradient + r * row, bias_column);
    for (int64_t unit = first / kPerUnit<T>; unit < units_of<T>(first + rows); ++unit)
      for (uint32_t* kept : {weights_ + unit * row, gradients_ + unit * row}) std::fill_n(kept, column, 0u), std::fill(kept + column + span.width, kept + span_.width, 0u);
    if constexpr (narrow_of<T>) {
      for (int64_t r = 0; r < rows; r += 2) {
        const bool odd = r + 1 < rows;
        const int64_t pair = (first + r) / 2 * row + column;
        narrow_pairs_avx512(weight + r * row, odd ? weight + (r + 1) * row : nullptr, weights_ + pair, span.width);
        narrow_pairs_avx512(gradient + r * row, odd ? gradient + (r + 1) * row : nullptr, gradients_ + pair, span.width);
      }
      for (int64_t r = 0; r < rows; ++r) narrow_in_place_avx512(gradient + r * row, span.width);
    }
    packed_product_avx512<T>(rows, p_.wide, units_of<T>(span.size), {reinterpret_cast<uint32_t*>(gradient), row, 1}, buffers_.key_depth.grown(0) + span.first / kPerUnit<T> * p_.wide,
                             p_.wide, scale, sums, p_.wide, false);
    for (int64_t r = 0; r < rows; ++r) store_row_avx512<T>(sums + r * p_.wide, 1.0f, d_.dq + p_.query(b_, h_, i0_ + first + r), s.K);
  }

  /// scores -> weights (dropped ones, if any), gradient of the weights -> gradient of the scores.
  void score_gradient(int64_t r, const PackedSpan& span, float delta, float* scores, float* gradient, float* bias_column) {
    const AttentionShape& s = p_.s;
    const KeySpan seen = p_.blocks.reach(block_, r, span.keys);
    p_.blocks.finish_row(b_, h_, block_, r, span.keys, scores + span.lead());
    const PackedRow row{seen.first - span.first, seen.last - span.first, span.width, p_.x.lse[(b_ * s.H + h_) * s.Nq + i0_ + r], delta};
    if (dropout_) {
      float* kept = buffers_.kept.grown(p_.score_row);
      weights_avx512(scores, row);
      std::copy_n(scores, span.width, kept);
      dropout_.row(b_, h_, block_, r, span.keys, kept + span.lead(), scores + span.lead());
      score_gradient_avx512(kept, scores, gradient, row);
    } else {
      weights_and_gradient_avx512(scores, gradient, row);
    }
    if (bias_column) p_.blocks.bias->collect(i0_ + r, gradient + span.lead(), span.keys.size(), bias_column);
  }

  const PackedAttention<T>& p_;
  const AttentionDropout& dropout_;
  const AttentionGradients<T, float>& d_;
  Buffers<T>& buffers_;
  int64_t b_, h_;
  const QueryBlock& block_;
  PackedSpan span_;                                                              // of the block
  PackedSpan groups_[tile_count(AttentionBlocks::kTallest, kGroupRows)];
  int64_t i0_;
  uint32_t *weights_, *gradients_;
};
}  // namespace

template <class T>
void attention_backward_packed(const AttentionShape& s, const AttentionOperands<T, float>& x, const AttentionGradients<T, float>& d, int threads) {
  const AttentionOperands<float> rules = rules_of(x);
  const AttentionBlocks blocks(s, rules);
  const AttentionDropout dropout(blocks);
  const PackedAttention<T> p(s, x, blocks);
  const int64_t pairs = s.B * s.KV, chunks = query_chunks(s, blocks);
  const KeySums<T> sums(p, chunks);
  const int64_t table = d.dbias_table ? s.table_rows() : 0;
  std::vector<float> columns(static_cast<size_t>(s.H * s.B * chunks * table));  // (H, B, chunks, T)

  parallel_tiles(pairs * chunks, threads, [&](int64_t task) {
    const int64_t b = task / (s.KV * chunks), kv = task / chunks % s.KV, chunk = task % chunks;
    float *dk = sums.at(0, b, kv, chunk), *dv = sums.at(1, b, kv, chunk);
    std::fill_n(dk, sums.size(), 0.0f), std::fill_n(dv, sums.size(), 0.0f);
    thread_local Buffers<T> buffers;
    for (int64_t h = kv * s.group(); h < (kv + 1) * s.group(); ++h) {
      if (h == kv * s.group() || s.displaced(h) != s.displaced(h - 1)) {
        pack_columns<T>(s.Nk, s.K, buffers.key_columns.grown(p.depth * p.key_row), p.key_row, p.key_rows(x.k, b, h));
        pack_columns<T>(s.Nk, s.K, buffers.value_columns.grown(p.depth * p.key_row), p.key_row, p.key_rows(x.v, b, h));
        pack_depth<T>(s.Nk, s.K, buffers.key_depth.grown(units_of<T>(s.Nk) * p.wide), p.key_rows(x.k, b, h));
      }
      float* column = table ? columns.data() + ((h * s.B + b) * chunks + chunk) * table : nullptr;
      const std::vector<QueryBlock>& list = blocks.of(h);
      const auto count = static_cast<int64_t>(list.size()), per_chunk = tile_count(count, chunks);
      for (int64_t n = chunk * per_chunk; n < std::min(count, (chunk + 1) * per_chunk); ++n) BlockGradients<T>(p, dropout, d, buffers, b, h, list[n]).run(dk, dv, column);
    }
  });
  sums.finish(d, threads);
  if (table)
    parallel_tiles(s.H, threads, [&](int64_t h) { blocks.bias->finish(columns.data() + h * s.B * chunks * table, s.B * chunks, table, d.dbias_table, h); });
}

template void attention_backward_packed<float>(const AttentionShape&, const AttentionOperands<float, float>&, const AttentionGradients<float, float>&, int);
template void attention_backward_packed<Bf16>(const AttentionShape&, const AttentionOperands<Bf16, float>&, const AttentionGradients<Bf16, float>&, int);
#endif
