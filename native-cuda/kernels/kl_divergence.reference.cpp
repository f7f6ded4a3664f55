#include "kl_divergence.h"

#include <cmath>

#include "row_reduce.h"

template <class T> double kl_divergence_forward_reference(const T* logits, const T* teacher, int64_t rows, int64_t cols, double weight) {
  double total = 0;
  for (int64_t r = 0; r < rows; ++r, logits += cols, teacher += cols) {
    T of_logits, of_teacher;
    logsumexp_forward_reference(logits, &of_logits, 1, cols);
    logsumexp_forward_reference(teacher, &of_teacher, 1, cols);
    for (int64_t c = 0; c < cols; ++c) {
      const T p = std::exp(teacher[c] - of_teacher);
      if (p > 0) total += p * ((teacher[c] - of_teacher) - (logits[c] - of_logits));
    }
  }
  return weight * total;
}

template <class T>
void kl_divergence_backward_reference(const T* dloss, const T* logits, const T* teacher, T* dlogits, int64_t rows, int64_t cols, double weight) {
  const T scale = dloss[0] * static_cast<T>(weight);
  for (int64_t r = 0; r < rows; ++r, logits += cols, teacher += cols, dlogits += cols) {
    T of_logits, of_teacher;
    logsumexp_forward_reference(logits, &of_logits, 1, cols);
    logsumexp_forward_reference(teacher, &of_teacher, 1, cols);
    for (int64_t c = 0; c < cols; ++c) dlogits[c] = scale * (std::exp(logits[c] - of_logits) - std::exp(teacher[c] - of_teacher));
  }
}

#define INSTANTIATE(T)                                                                                       \
  template double kl_divergence_forward_reference(const T*, const T*, int64_t, int64_t, double);             \
  template void kl_divergence_backward_reference(const T*, const T*, const T*, T*, int64_t, int64_t, double);
INSTANTIATE(float)
INSTANTIATE(double)
