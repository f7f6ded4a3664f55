#include "cosine_loss.h"

#include <algorithm>
#include <cmath>

#include "l2_normalize.h"

template <class T> struct Angle {
  T pred_length, target_length, cosine;
};

template <class T> static Angle<T> angle(const T* pred, const T* target, int64_t cols) {
  T pp = 0, tt = 0, pt = 0;
  for (int64_t c = 0; c < cols; ++c) pp += pred[c] * pred[c], tt += target[c] * target[c], pt += pred[c] * target[c];
  const T p = std::max(std::sqrt(pp), static_cast<T>(kSmallestNorm)), t = std::max(std::sqrt(tt), static_cast<T>(kSmallestNorm));
  return {p, t, pt / p / t};
}

template <class T> double cosine_loss_forward_reference(const T* pred, const T* target, int64_t rows, int64_t cols, double weight) {
  double total = 0;
  for (int64_t r = 0; r < rows; ++r) total += 1 - angle(pred + r * cols, target + r * cols, cols).cosine;
  return weight * total;
}

template <class T>
void cosine_loss_backward_reference(const T* dloss, const T* pred, const T* target, T* dpred, int64_t rows, int64_t cols, double weight) {
  const T scale = dloss[0] * static_cast<T>(weight);
  for (int64_t r = 0; r < rows; ++r, pred += cols, target += cols, dpred += cols) {
    const Angle<T> a = angle(pred, target, cols);
    for (int64_t c = 0; c < cols; ++c)
      dpred[c] = -scale * (target[c] / a.target_length - pred[c] / a.pred_length * a.cosine) / a.pred_length;
  }
}

#define INSTANTIATE(T)                                                                               \
  template double cosine_loss_forward_reference(const T*, const T*, int64_t, int64_t, double);       \
  template void cosine_loss_backward_reference(const T*, const T*, const T*, T*, int64_t, int64_t, double);
INSTANTIATE(float)
INSTANTIATE(double)
