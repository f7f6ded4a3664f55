// Fused attention: per head, A = softmax(q k^T * scale + bias + mask), y = drop(A) v. The (Nq, Nk) matrix is never stored whole.
//   q (B, Nq, H*K)   k, v (B, Nk, KV*K)   y like q   lse (B, H, Nq) = log of the softmax denominator, kept for backward
//   keyMask u8 (B, Nk), 0 = hidden        biasTable (T, H), see relative_bias.h; needs Nq = Nk = 1 + gridH * gridW
//   boundaries i32 (S+1), 0 = b[0] <= ... <= b[S] = Nq = Nk, B = 1: the S sequences b[s] .. b[s+1] do not see each other
// Query i stands at position i + (Nk - Nq): the last query at the last key. It sees the keys that pass every rule asked for:
// AT-1: causal: j <= position.
// AT-2: a query that sees no key gives y = 0 and lse = -infinity, and takes no part in any gradient.
// AT-3: grouped queries are consecutive: query head h uses key head h / (H / KV).
// AT-4: the work is cut by shape and boundaries alone and every gradient that several tasks share (k, v of a group, the
//       bias table) is summed in (head, query chunk) or (batch, chunk) order: the same bits for any number of threads.
// AT-5: window w > 0, which needs causal: 0 <= position - j < w. A sliding window, Jiang et al. 2023.
// AT-6: groupSize g > 0, which needs g and H even, Nq = Nk and g | N: only the keys of the query's own group of g tokens. Heads
//       0 .. H/2 have the groups floor(i / g); for the others they lie g/2 further: floor((i + g/2) / g), two groups of g/2 at
//       the ends (split), or floor(((i - g/2) mod N) / g), where causal compares (i - g/2) mod N (roll). S2-Attn, Chen et al. 2023.
// AT-7: dropout of A by dropout.h's rule. Element ((firstHead + h) * nq + i) * nk + j of a sample decides about A[h, i, j], with
//       the sample's sizes without padding: nk reaches behind the last key that keyMask shows; nq is queryLengths[b], without
//       them nk where Nq = Nk, else Nq. A sequence between boundaries is a sample, and i, j count from its start.
// AT-8: in bf16 (q, k, v, dy, y and their gradients all at once) statistics, bias table and sums are f32. Where the processor has
//       avx512_bf16, A and the gradient of the scores are rounded to bf16 before they are multiplied, 2^-9 of an element each;
//       elsewhere, and where f32 and bf16 mix, the operands are widened and f32 is computed.
// Kernels, scalars (heads, kvHeads, causal, gridH, gridW, scale) and, optionally, all of
//   (window, groupSize, roll, p, seedLo, seedHi, step, site, firstHead):
//   attention_forward [q, k, v, keyMask | 0, biasTable | 0, y, lse, ...]
//   attention_backward [dy, q, k, v, keyMask | 0, biasTable | 0, y, lse, dq, dk, dv, dbiasTable | 0, ...]
//   where ... is nothing or [boundaries | 0, sampleIds i32 (B or S) | 0, queryLengths i32 (B) | 0, step i64 (1) | 0]; sampleIds are needed
//   when p > 0, and a step given as a tensor takes the place of the scalar.
// Sources: Vaswani et al. 2017 eq. 1; Dao et al. 2022 (lse and delta in backward); Ainslie et al. 2023 (grouped queries).
#pragma once
#include <cstdint>

#include "dropout.h"

struct AttentionShape {
  int64_t B, Nq, Nk, H, KV, K;
  bool causal;
  int64_t grid_h, grid_w;  // 0 without a bias table
  double scale;
  int64_t window;      // 0: none
  int64_t group_size;  // 0: no groups
  bool roll;
  int64_t sequences;  // 0 without boundaries
  DropoutSite dropout;
  int64_t first_head;  // of the model, where this is a part of it: dropout counts heads from there

  int64_t group() const { return H / KV; }
  int64_t table_rows() const { return (2 * grid_h - 1) * (2 * grid_w - 1) + 3; }
  /// The key at which query i stands; may be negative.
  int64_t position(int64_t i) const { return i + (Nk - Nq); }
  /// Heads whose groups are displaced.
  bool displaced(int64_t h) const { return group_size > 0 && h >= H / 2; }
};

/// S: what statistics and the bias table are in, f32 where T is bf16.
template <class T, class S = T> struct AttentionOperands {
  const T *q, *k, *v;
  const uint8_t* key_mask;  // or null
  const S* bias_table;      // or null
  T* y;                     // this and lse written by forward, read by backward
  S* lse;
  const int32_t *boundaries, *sample_ids, *query_lengths;  // or null
};

template <class T, class S = T> struct AttentionGradients {
  const T* dy;
  T *dq, *dk, *dv;
  S* dbias_table;  // or null
};

template <class T> void attention_forward_reference(const AttentionShape& shape, const AttentionOperands<T>& x);
template <class T> void attention_backward_reference(const AttentionShape& shape, const AttentionOperands<T>& x, const AttentionGradients<T>& d);

void attention_forward(const AttentionShape& shape, const AttentionOperands<float>& x, int threads);
void attention_backward(const AttentionShape& shape, const AttentionOperands<float>& x, const AttentionGradients<float>& d, int threads);

/// The same on AVX-512, where packed_products_run<T>(), for f32 and bf16. In bf16 the products take weights and score gradients
/// rounded to bf16 and sum in f32; softmax, lse, delta and the bias are f32.
template <class T> void attention_forward_packed(const AttentionShape& shape, const AttentionOperands<T, float>& x, int threads);
template <class T> void attention_backward_packed(const AttentionShape& shape, const AttentionOperands<T, float>& x, const AttentionGradients<T, float>& d, int threads);
