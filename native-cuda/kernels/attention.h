// Fused attention: per head, A = softmax(q k^T * scale + bias + mask), y = A v. The (Nq, Nk) matrix is never stored whole.
//   q (B, Nq, H*K)   k, v (B, Nk, KV*K)   y like q   lse (B, H, Nq) = log of the softmax denominator, kept for backward
//   keyMask u8 (B, Nk), 0 = hidden        biasTable (T, H), see relative_bias.h; needs Nq = Nk = 1 + gridH * gridW
// AT-1: causal: query i sees key j iff j <= i + (Nk - Nq), so that the last query sees every key.
// AT-2: a query that sees no key gives y = 0 and lse = -infinity, and takes no part in any gradient.
// AT-3: grouped queries are consecutive: query head h uses key head h / (H / KV).
// AT-4: the work is cut by shape alone and every gradient that several tasks share (k, v of a group, the bias table) is
//       summed in (head, query chunk) or (batch, chunk) order: the same bits for any number of threads.
// Kernels, scalars (heads, kvHeads, causal, gridH, gridW, scale):
//   attention_forward [q, k, v, keyMask | 0, biasTable | 0, y, lse]
//   attention_backward [dy, q, k, v, keyMask | 0, biasTable | 0, y, lse, dq, dk, dv, dbiasTable | 0]
// Sources: Vaswani et al. 2017 eq. 1; Dao et al. 2022 (lse and delta in backward); Ainslie et al. 2023 (grouped queries).
#pragma once
#include <cstdint>

struct AttentionShape {
  int64_t B, Nq, Nk, H, KV, K;
  bool causal;
  int64_t grid_h, grid_w;  // 0 without a bias table
  double scale;

  int64_t group() const { return H / KV; }
  int64_t table_rows() const { return (2 * grid_h - 1) * (2 * grid_w - 1) + 3; }
  /// Number of leading keys that query i may see as far as causality goes; may be negative.
  int64_t reach(int64_t i) const { return causal ? i + (Nk - Nq) + 1 : Nk; }
};

template <class T> struct AttentionOperands {
  const T *q, *k, *v;
  const uint8_t* key_mask;  // or null
  const T* bias_table;      // or null
  T *y, *lse;               // written by forward, read by backward
};

template <class T> struct AttentionGradients {
  const T* dy;
  T *dq, *dk, *dv;
  T* dbias_table;  // or null
};

template <class T> void attention_forward_reference(const AttentionShape& shape, const AttentionOperands<T>& x);
template <class T> void attention_backward_reference(const AttentionShape& shape, const AttentionOperands<T>& x, const AttentionGradients<T>& d);

void attention_forward(const AttentionShape& shape, const AttentionOperands<float>& x, int threads);
void attention_backward(const AttentionShape& shape, const AttentionOperands<float>& x, const AttentionGradients<float>& d, int threads);
