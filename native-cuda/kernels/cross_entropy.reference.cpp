#include "cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "arguments.h"

template <class T>
double cross_entropy_forward_reference(const T* logits, const int32_t* labels, T* lse, int64_t rows, int64_t cols, double weight) {
  double total = 0;
  for (int64_t r = 0; r < rows; ++r, logits += cols) {
    lse[r] = 0;
    if (labels[r] == kIgnoredLabel) continue;
    const T peak = *std::max_element(logits, logits + cols);
    T sum = 0;
    for (int64_t c = 0; c < cols; ++c) sum += std::exp(logits[c] - peak);
    lse[r] = peak + std::log(sum);
    total += lse[r] - logits[labels[r]];
  }
  return weight * total;
}

template <class T>
void cross_entropy_backward_reference(const T* dloss, const T* logits, const int32_t* labels, const T* lse, T* dlogits,
                                      int64_t rows, int64_t cols, double weight) {
  const T scale = dloss[0] * static_cast<T>(weight);
  for (int64_t r = 0; r < rows; ++r, logits += cols, dlogits += cols)
    for (int64_t c = 0; c < cols; ++c)
      dlogits[c] = labels[r] == kIgnoredLabel ? 0 : scale * (std::exp(logits[c] - lse[r]) - (labels[r] == c));
}

#define INSTANTIATE(T)                                                                                               \
  template double cross_entropy_forward_reference(const T*, const int32_t*, T*, int64_t, int64_t, double);           \
  template void cross_entropy_backward_reference(const T*, const T*, const int32_t*, const T*, T*, int64_t, int64_t, double);
INSTANTIATE(float)
INSTANTIATE(double)
