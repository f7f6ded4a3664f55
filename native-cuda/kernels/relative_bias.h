// BEiT's relative position bias: bias[h, i, j] = table[index(i, j), h], table (T, H), T = (2 gh - 1)(2 gw - 1) + 3.
// Token 0 is the class token, then come the patches of a gh x gw grid, row-major. Bao et al. 2021.
// The dense bias is never built: one table row per pair is looked up where it is needed.
#pragma once
#include <cstdint>
#include <vector>

inline int64_t relative_bias_index(int64_t i, int64_t j, int64_t gh, int64_t gw) {
  const int64_t pairs = (2 * gh - 1) * (2 * gw - 1);
  if (i == 0) return j == 0 ? pairs + 2 : pairs;  // class to class, class to patch
  if (j == 0) return pairs + 1;                   // patch to class
  const int64_t ri = (i - 1) / gw, ci = (i - 1) % gw, rj = (j - 1) / gw, cj = (j - 1) % gw;
  return (ri - rj + gh - 1) * (2 * gw - 1) + (ci - cj + gw - 1);
}

/// The table as attention reads it: one reversed column per head, so that the patches of one grid row, seen from one
/// query, are neighbours in memory and in order. The three class entries follow unreversed.
class RelativeBias {
 public:
  RelativeBias(const float* table, int64_t heads, int64_t gh, int64_t gw);

  int64_t rows() const { return pairs_ + 3; }
  /// scores[j] += bias[head, i, j] for j < n.
  void add(int64_t head, int64_t i, float* scores, int64_t n) const;
  /// column (rows(), reversed as above) += gradient[j] at index(i, j), for j < n.
  void collect(int64_t i, const float* gradient, int64_t n, float* column) const;
  /// dtable[t, head] = the sum of `count` such columns in index order.
  void finish(const float* columns, int64_t count, int64_t stride, float* dtable, int64_t head) const;

 private:
  int64_t heads_, gh_, gw_, pairs_;
  std::vector<float> columns_;
};
