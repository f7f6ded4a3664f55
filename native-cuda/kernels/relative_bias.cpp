#include "relative_bias.h"

#include <algorithm>

#include "lanes.h"
#include "tiles.h"

namespace {
/// body(j, length, entry): keys j .. j + length of one grid row use the entries entry .. entry + length of a reversed column.
template <class F> OCTAVO_INLINE void runs(int64_t i, int64_t n, int64_t gh, int64_t gw, int64_t pairs, F&& body) {
  const int64_t ri = (i - 1) / gw, ci = (i - 1) % gw;
  int64_t entry = pairs - 1 - ((ri + gh - 1) * (2 * gw - 1) + ci + gw - 1);
  for (int64_t j = 1; j < n; j += gw, entry += 2 * gw - 1) body(j, std::min(gw, n - j), entry);
}

OCTAVO_CLONES void add_patches(const float* column, int64_t i, int64_t n, int64_t gh, int64_t gw, int64_t pairs, float* scores) {
  runs(i, n, gh, gw, pairs, [&](int64_t j, int64_t length, int64_t entry) __attribute__((always_inline)) {
    for (int64_t c = 0; c < length; ++c) scores[j + c] += column[entry + c];
  });
}

OCTAVO_CLONES void collect_patches(const float* gradient, int64_t i, int64_t n, int64_t gh, int64_t gw, int64_t pairs, float* column) {
  runs(i, n, gh, gw, pairs, [&](int64_t j, int64_t length, int64_t entry) __attribute__((always_inline)) {
    for (int64_t c = 0; c < length; ++c) column[entry + c] += gradient[j + c];
  });
}

OCTAVO_CLONES void add_constant(float* scores, int64_t n, float value) {
  for (int64_t j = 0; j < n; ++j) scores[j] += value;
}

OCTAVO_CLONES float total(const float* x, int64_t n) { return row_sum(x, n); }
}  // namespace

RelativeBias::RelativeBias(const float* table, int64_t heads, int64_t gh, int64_t gw)
    : heads_(heads), gh_(gh), gw_(gw), pairs_((2 * gh - 1) * (2 * gw - 1)), columns_(static_cast<size_t>(heads * (pairs_ + 3))) {
  for (int64_t h = 0; h < heads; ++h) {
    float* column = columns_.data() + h * rows();
    for (int64_t t = 0; t < pairs_; ++t) column[pairs_ - 1 - t] = table[t * heads + h];
    for (int64_t t = pairs_; t < rows(); ++t) column[t] = table[t * heads + h];
  }
}

void RelativeBias::add(int64_t head, int64_t i, float* scores, int64_t n) const {
  if (n <= 0) return;
  const float* column = columns_.data() + head * rows();
  scores[0] += column[i == 0 ? pairs_ + 2 : pairs_ + 1];
  if (i == 0) add_constant(scores + 1, n - 1, column[pairs_]);
  else add_patches(column, i, n, gh_, gw_, pairs_, scores);
}

void RelativeBias::collect(int64_t i, const float* gradient, int64_t n, float* column) const {
  if (n <= 0) return;
  column[i == 0 ? pairs_ + 2 : pairs_ + 1] += gradient[0];
  if (i == 0) column[pairs_] += total(gradient + 1, n - 1);
  else collect_patches(gradient, i, n, gh_, gw_, pairs_, column);
}

void RelativeBias::finish(const float* columns, int64_t count, int64_t stride, float* dtable, int64_t head) const {
  for (int64_t t = 0; t < rows(); ++t) {
    const int64_t entry = t < pairs_ ? pairs_ - 1 - t : t;
    double sum = 0;
    for (int64_t c = 0; c < count; ++c) sum += columns[c * stride + entry];
    dtable[t * heads_ + head] = static_cast<float>(sum);
  }
}
