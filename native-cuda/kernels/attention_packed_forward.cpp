// One task per (batch, key head, chunk of query blocks): K and V packed once for all query heads of the key head, then scores, softmax
// and y a few rows at a time.
#include "attention_dropout.h"
#include "attention_packed.h"
#include "packed_rows.h"
#include "tiles.h"

#ifdef OCTAVO_PACKED_PRODUCTS
#include <type_traits>

namespace {
template <class T> struct Buffers {
  Scratch<uint32_t> keys, values, queries;
  Scratch<float> scores, sums;
};

template <class T>
void forward_rows(const PackedAttention<T>& p, const AttentionDropout& dropout, int64_t b, int64_t h, const QueryBlock& block, int64_t first, int64_t rows, Buffers<T>& buffers) {
  const AttentionShape& s = p.s;
  const PackedSpan span(p.reach(block, p.blocks.keys(b, h, block), first, rows));
  const int64_t i0 = p.blocks.token(h, block.place) + first;
  uint32_t* queries = buffers.queries.grown(kGroupRows * p.left_row);
  float *scores = buffers.scores.grown(kGroupRows * p.score_row), *sums = buffers.sums.grown(kGroupRows * p.wide), inverse[kGroupRows];
  for (int64_t r = 0; r < rows; ++r) {
    pack_row_avx512<T>(p.x.q + p.query(b, h, i0 + r), s.K, queries + r * p.left_row);
    p.fetch(p.x.q, b, h, i0 + r + kGroupRows), p.fetch(p.x.y, b, h, i0 + r);
  }
  packed_product_avx512<T>(rows, span.width, p.depth, {queries, p.left_row, 1}, buffers.keys.grown(0) + span.first, p.key_row, static_cast<float>(s.scale), scores, p.score_row, false);
  for (int64_t r = 0; r < rows; ++r) {
    const KeySpan seen = p.blocks.reach(block, first + r, span.keys);
    float *row = scores + r * p.score_row, *seen_row = row + span.lead();
    p.blocks.finish_row(b, h, block, first + r, span.keys, seen_row);
    const PackedSoftmax softmax = exponentials_avx512(row, seen.first - span.first, seen.last - span.first, span.width);
    p.x.lse[(b * s.H + h) * s.Nq + i0 + r] = softmax.lse, inverse[r] = softmax.inverse;
    if (dropout) dropout.row(b, h, block, first + r, span.keys, seen_row, seen_row);
    if constexpr (std::is_same_v<T, Bf16>) narrow_in_place_avx512(row, span.width);
  }
  packed_product_avx512<T>(rows, p.wide, units_of<T>(span.size), {reinterpret_cast<uint32_t*>(scores), p.score_row, 1},
                           buffers.values.grown(0) + span.first / kPerUnit<T> * p.wide, p.wide, 1.0f, sums, p.wide, false);
  for (int64_t r = 0; r < rows; ++r) store_row_avx512<T>(sums + r * p.wide, inverse[r], p.x.y + p.query(b, h, i0 + r), s.K);
}
}  // namespace

template <class T> void attention_forward_packed(const AttentionShape& s, const AttentionOperands<T, float>& x, int threads) {
  const AttentionOperands<float> rules = rules_of(x);
  const AttentionBlocks blocks(s, rules);
  const AttentionDropout dropout(blocks);
  const PackedAttention<T> p(s, x, blocks);
  const int64_t pairs = s.B * s.KV, chunks = query_chunks(s, blocks);
  parallel_tiles(pairs * chunks, threads, [&](int64_t task) {
    const int64_t b = task / (s.KV * chunks), kv = task / chunks % s.KV, chunk = task % chunks;
    thread_local Buffers<T> buffers;
    for (int64_t h = kv * s.group(); h < (kv + 1) * s.group(); ++h) {
      if (h == kv * s.group() || s.displaced(h) != s.displaced(h - 1)) {
        pack_columns<T>(s.Nk, s.K, buffers.keys.grown(p.depth * p.key_row), p.key_row, p.key_rows(x.k, b, h));
        pack_depth<T>(s.Nk, s.K, buffers.values.grown(units_of<T>(s.Nk) * p.wide), p.key_rows(x.v, b, h));
      }
      const std::vector<QueryBlock>& list = blocks.of(h);
      const auto count = static_cast<int64_t>(list.size()), per_chunk = tile_count(count, chunks);
      for (int64_t n = chunk * per_chunk; n < std::min(count, (chunk + 1) * per_chunk); ++n)
        for (int64_t first = 0; first < list[n].rows; first += kGroupRows)
          forward_rows(p, dropout, b, h, list[n], first, std::min(kGroupRows, list[n].rows - first), buffers);
    }
  });
}

template void attention_forward_packed<float>(const AttentionShape&, const AttentionOperands<float, float>&, int);
template void attention_forward_packed<Bf16>(const AttentionShape&, const AttentionOperands<Bf16, float>&, int);
#endif
