#include "attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "philox.h"
#include "relative_bias.h"

namespace {
/// Which sequence of a packed batch token i belongs to; 0 when nothing is packed.
template <class T> int64_t sequence_of(const AttentionShape& s, const AttentionOperands<T>& x, int64_t i) {
  return s.sequences == 0 ? 0 : std::upper_bound(x.boundaries, x.boundaries + s.sequences + 1, i) - x.boundaries - 1;
}

/// Group of a token, and the place that causality compares.
struct Place {
  int64_t group, order;
};
Place place_of(const AttentionShape& s, int64_t h, int64_t position) {
  const int64_t g = s.group_size;
  if (g == 0) return {0, position};
  if (!s.displaced(h)) return {position / g, position};
  if (!s.roll) return {(position + g / 2) / g, position};
  const int64_t rolled = (position - g / 2 + s.Nk) % s.Nk;
  return {rolled / g, rolled};
}

template <class T> bool sees(const AttentionShape& s, const AttentionOperands<T>& x, int64_t b, int64_t h, int64_t i, int64_t j) {
  if (x.key_mask && !x.key_mask[b * s.Nk + j]) return false;
  if (sequence_of(s, x, i) != sequence_of(s, x, j)) return false;
  const Place query = place_of(s, h, s.position(i)), key = place_of(s, h, j);
  if (query.group != key.group) return false;
  if (s.causal && key.order > query.order) return false;
  return s.window == 0 || query.order - key.order < s.window;
}

/// The scores of one query, -infinity where it sees nothing.
template <class T> std::vector<T> scores_of(const AttentionShape& s, const AttentionOperands<T>& x, int64_t b, int64_t h, int64_t i) {
  const T* q = x.q + ((b * s.Nq + i) * s.H + h) * s.K;
  std::vector<T> scores(static_cast<size_t>(s.Nk), -std::numeric_limits<T>::infinity());
  for (int64_t j = 0; j < s.Nk; ++j) {
    if (!sees(s, x, b, h, i, j)) continue;
    const T* k = x.k + ((b * s.Nk + j) * s.KV + h / s.group()) * s.K;
    T dot = 0;
    for (int64_t d = 0; d < s.K; ++d) dot += q[d] * k[d];
    scores[j] = dot * static_cast<T>(s.scale);
    if (x.bias_table) scores[j] += x.bias_table[relative_bias_index(i, j, s.grid_h, s.grid_w) * s.H + h];
  }
  return scores;
}

/// What dropout multiplies A[b, h, i, j] with (AT-7).
template <class T> class Keep {
 public:
  Keep(const AttentionShape& s, const AttentionOperands<T>& x) : s_(s), x_(x), keys_(static_cast<size_t>(s.B), s.Nk) {
    for (int64_t b = 0; b < s.B && x.key_mask; ++b)
      while (keys_[b] > 0 && !x.key_mask[b * s.Nk + keys_[b] - 1]) --keys_[b];
  }
  T operator()(int64_t b, int64_t h, int64_t i, int64_t j) const {
    if (s_.dropout.p == 0) return 1;
    int64_t sample = b, start = 0, nk = keys_[b], nq = x_.query_lengths ? x_.query_lengths[b] : s_.Nq == s_.Nk ? nk : s_.Nq;
    if (s_.sequences > 0) sample = sequence_of(s_, x_, i), start = x_.boundaries[sample], nq = nk = x_.boundaries[sample + 1] - start;
    const auto e = static_cast<uint64_t>(((s_.first_head + h) * nq + i - start) * nk + j - start);
    const uint32_t word = philox(s_.dropout.key(), s_.dropout.stream(x_.sample_ids[sample]), e / 4)[e % 4];
    return word * 0x1p-32 >= s_.dropout.p ? static_cast<T>(1 / (1 - s_.dropout.p)) : T(0);
  }

 private:
  const AttentionShape& s_;
  const AttentionOperands<T>& x_;
  std::vector<int64_t> keys_;
};

template <class F> void every_query(const AttentionShape& s, F&& body) {
  for (int64_t b = 0; b < s.B; ++b)
    for (int64_t h = 0; h < s.H; ++h)
      for (int64_t i = 0; i < s.Nq; ++i) body(b, h, i);
}
}  // namespace

template <class T> void attention_forward_reference(const AttentionShape& s, const AttentionOperands<T>& x) {
  const T nothing = -std::numeric_limits<T>::infinity();
  const Keep<T> keep(s, x);
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
      const T weight = std::exp(scores[j] - lse) * keep(b, h, i, j);
      for (int64_t d = 0; d < s.K; ++d) y[d] += weight * v[d];
    }
  });
}

template <class T> void attention_backward_reference(const AttentionShape& s, const AttentionOperands<T>& x, const AttentionGradients<T>& g) {
  const T scale = static_cast<T>(s.scale);
  const Keep<T> keep(s, x);
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
      const T weight = std::exp(scores[j] - x.lse[(b * s.H + h) * s.Nq + i]), kept = keep(b, h, i, j);
      T dweight = 0;
      for (int64_t d = 0; d < s.K; ++d) {
        dweight += g.dy[query + d] * x.v[key + d];
        g.dv[key + d] += weight * kept * g.dy[query + d];
      }
      const T dscore = weight * (dweight * kept - delta);
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
