#include "cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "arguments.h"

void LabelShares::of(int32_t label, const LabelSpread& spread) {
  begin = label;
  weight.assign(1, 1.0);
  if (spread.sigma == 0) return;
  const auto reach = static_cast<int64_t>(std::ceil(6 * spread.sigma));
  begin = std::max<int64_t>(spread.first, label - reach);
  weight.resize(static_cast<size_t>(std::min(spread.first + spread.bins - 1, label + reach) - begin + 1));
  double total = 0;
  for (size_t j = 0; j < weight.size(); ++j) {
    const double distance = static_cast<double>(begin + static_cast<int64_t>(j) - label) / spread.sigma;
    total += weight[j] = std::exp(-distance * distance / 2);
  }
  for (double& share : weight) share /= total;
}

/// q of one row, class by class.
static std::vector<double> wanted(int32_t label, int64_t cols, const LabelSpread& spread) {
  LabelShares shares;
  shares.of(label, spread);
  std::vector<double> q(static_cast<size_t>(cols), spread.smoothing / static_cast<double>(cols));
  for (size_t j = 0; j < shares.weight.size(); ++j) q[static_cast<size_t>(shares.begin) + j] += (1 - spread.smoothing) * shares.weight[j];
  return q;
}

template <class T>
double cross_entropy_forward_reference(const T* logits, const int32_t* labels, T* lse, int64_t rows, int64_t cols, double weight,
                                       const LabelSpread& spread) {
  double total = 0;
  for (int64_t r = 0; r < rows; ++r, logits += cols) {
    lse[r] = 0;
    if (labels[r] == kIgnoredLabel) continue;
    const T peak = *std::max_element(logits, logits + cols);
    T sum = 0;
    for (int64_t c = 0; c < cols; ++c) sum += std::exp(logits[c] - peak);
    lse[r] = peak + std::log(sum);
    const std::vector<double> q = wanted(labels[r], cols, spread);
    for (int64_t c = 0; c < cols; ++c) if (q[c] != 0) total += q[c] * (lse[r] - logits[c]);
  }
  return weight * total;
}

template <class T>
void cross_entropy_backward_reference(const T* dloss, const T* logits, const int32_t* labels, const T* lse, T* dlogits,
                                      int64_t rows, int64_t cols, double weight, const LabelSpread& spread) {
  const T scale = dloss[0] * static_cast<T>(weight);
  for (int64_t r = 0; r < rows; ++r, logits += cols, dlogits += cols) {
    if (labels[r] == kIgnoredLabel) {
      std::fill(dlogits, dlogits + cols, T(0));
      continue;
    }
    const std::vector<double> q = wanted(labels[r], cols, spread);
    for (int64_t c = 0; c < cols; ++c) dlogits[c] = scale * (std::exp(logits[c] - lse[r]) - static_cast<T>(q[c]));
  }
}

#define INSTANTIATE(T)                                                                                                        \
  template double cross_entropy_forward_reference(const T*, const int32_t*, T*, int64_t, int64_t, double, const LabelSpread&); \
  template void cross_entropy_backward_reference(const T*, const T*, const int32_t*, const T*, T*, int64_t, int64_t, double, const LabelSpread&);
INSTANTIATE(float)
INSTANTIATE(double)
