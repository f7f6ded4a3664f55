#include "bce.h"

#include <algorithm>
#include <cmath>

#include "arguments.h"

template <class T> double bce_forward_reference(const T* logits, const int32_t* labels, int64_t n, double weight) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (labels[i] == kIgnoredLabel) continue;
    const T z = logits[i], softplus = std::max(z, T(0)) + std::log1p(std::exp(-std::abs(z)));
    total += softplus - z * static_cast<T>(labels[i]);
  }
  return weight * total;
}

template <class T>
void bce_backward_reference(const T* dloss, const T* logits, const int32_t* labels, T* dlogits, int64_t n, double weight) {
  for (int64_t i = 0; i < n; ++i) {
    // sigmoid(z) - 1 = -sigmoid(-z): no cancellation for a confident right answer
    const T z = labels[i] == 1 ? -logits[i] : logits[i];
    const T s = z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z));
    dlogits[i] = labels[i] == kIgnoredLabel ? 0 : dloss[0] * static_cast<T>(weight) * (labels[i] == 1 ? -s : s);
  }
}

#define INSTANTIATE(T)                                                                       \
  template double bce_forward_reference(const T*, const int32_t*, int64_t, double);          \
  template void bce_backward_reference(const T*, const T*, const int32_t*, T*, int64_t, double);
INSTANTIATE(float)
INSTANTIATE(double)
