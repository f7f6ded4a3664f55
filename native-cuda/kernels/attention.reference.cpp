#include "attention.h"

#include <cmath>
#include <limits>
#include <vector>

#include "relative_bias.h"

namespace {
/// The scores of one query, -infinity where it sees nothing.
template <class T> std::vector<T> scores_of(const AttentionShape& s, const AttentionOperands<T>& x, int64_t b, int64_t h, int64_t i) {
  const T* q = x.q + ((b * s.Nq + i) * s.H + h) * s.K;
  std::vector<T> scores(static_cast<size_t>(s.Nk), -std::numeric_limits<T>::infinity());
  for (int64_t j = 0; j < s.Nk && j < s.reach(i); ++j) {
    if (x.key_mask && !x.key_mask[b * s.Nk + j]) continue;
    const T* k = x.k + ((b * s.Nk + j) * s.KV + h / s.group()) * s.K;
    T dot = 0;
    for (int64_t d = 0; d < s.K; ++d) dot += q[d] * k[d];
    scores[j] = dot * static_cast<T>(s.scale);
    if (x.bias_table) scores[j] += x.bias_table[relative_bias_index(i, j, s.grid_h, s.grid_w) * s.H + h];
  }
  return scores;
}

template <class F> void every_query(const AttentionShape& s, F&& body) {
  for (int64_t b = 0; b < s.B; ++b)
    for (int64_t h = 0; h < s.H; ++h)
      for (int64_t i = 0; i < s.Nq; ++i) body(b, h, i);
}
}  // namespace

template <class T> void attention_forward_reference(const AttentionShape& s, const AttentionOperands<T>& x) {
  const T nothing = -std::numeric_limits<T>::infinity();
  every_query(s, [&](int64_t b, int64_t h, int64_t i) {
    const std::vector<T> scores = scores_of(s, x, b, h, i);
    T* y = x.y + ((b * s.Nq + i) * s.H + h) * s.K;
    T& lse = x.lse[(b * s.H + h) * s.Nq + i];
    T peak = nothing, total = 0;
    for (T score : scores) peak = std::max(peak, score);
    if (peak != nothing)
      for (T score : scores) total += std::exp(score - peak);
    lse = peak == nothing ? nothing : peak + std::log(total);
    for (int64_t d = 0; d < s.K; ++d) y[d] = 0;
    for (int64_t j = 0; j < s.Nk; ++j) {
      if (scores[j] == nothing) continue;
      const T* v = x.v + ((b * s.Nk + j) * s.KV + h / s.group()) * s.K;
      for (int64_t d = 0; d < s.K; ++d) y[d] += std::exp(scores[j] - lse) * v[d];
    }
  });
}

template <class T> void attention_backward_reference(const AttentionShape& s, const AttentionOperands<T>& x, const AttentionGradients<T>& g) {
  const T scale = static_cast<T>(s.scale);
  std::fill_n(g.dq, s.B * s.Nq * s.H * s.K, T(0));
  std::fill_n(g.dk, s.B * s.Nk * s.KV * s.K, T(0));
  std::fill_n(g.dv, s.B * s.Nk * s.KV * s.K, T(0));
  if (g.dbias_table) std::fill_n(g.dbias_table, s.table_rows() * s.H, T(0));
  every_query(s, [&](int64_t b, int64_t h, int64_t i) {
    const std::vector<T> scores = scores_of(s, x, b, h, i);
    const int64_t query = ((b * s.Nq + i) * s.H + h) * s.K;
    T delta = 0;  // sum over keys of A * dA, which equals dy . y
    for (int64_t d = 0; d < s.K; ++d) delta += g.dy[query + d] * x.y[query + d];
    for (int64_t j = 0; j < s.Nk; ++j) {
      if (std::isinf(scores[j]) && scores[j] < 0) continue;
      const int64_t key = ((b * s.Nk + j) * s.KV + h / s.group()) * s.K;
      const T weight = std::exp(scores[j] - x.lse[(b * s.H + h) * s.Nq + i]);
      T dweight = 0;
      for (int64_t d = 0; d < s.K; ++d) {
        dweight += g.dy[query + d] * x.v[key + d];
        g.dv[key + d] += weight * g.dy[query + d];
      }
      const T dscore = weight * (dweight - delta);
      for (int64_t d = 0; d < s.K; ++d) {
        g.dq[query + d] += dscore * scale * x.k[key + d];
        g.dk[key + d] += dscore * scale * x.q[query + d];
      }
      if (g.dbias_table) g.dbias_table[relative_bias_index(i, j, s.grid_h, s.grid_w) * s.H + h] += dscore;
    }
  });
}

#define OCTAVO_INSTANTIATE(T)                                                                        \
  template void attention_forward_reference<T>(const AttentionShape&, const AttentionOperands<T>&);  \
  template void attention_backward_reference<T>(const AttentionShape&, const AttentionOperands<T>&, const AttentionGradients<T>&);
OCTAVO_INSTANTIATE(float)
OCTAVO_INSTANTIATE(double)
