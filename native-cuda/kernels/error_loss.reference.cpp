#include "error_loss.h"

#include <cmath>

template <class T> struct Errors {
  static double squared_error(double d) { return d * d; }
  static T squared_error_slope(T d) { return 2 * d; }
  static double absolute_error(double d) { return std::abs(d); }
  static T absolute_error_slope(T d) { return static_cast<T>((d > 0) - (d < 0)); }
};

#define DEFINE(name)                                                                                                           \
  template <class T> double name##_forward_reference(const T* pred, const T* target, int64_t n, double weight) {               \
    double total = 0;                                                                                                          \
    for (int64_t i = 0; i < n; ++i) total += Errors<T>::name(static_cast<double>(pred[i]) - static_cast<double>(target[i]));   \
    return weight * total;                                                                                                     \
  }                                                                                                                            \
  template <class T> void name##_backward_reference(const T* dloss, const T* pred, const T* target, T* dpred, int64_t n, double weight) { \
    const T scale = dloss[0] * static_cast<T>(weight);                                                                         \
    for (int64_t i = 0; i < n; ++i) dpred[i] = scale * Errors<T>::name##_slope(pred[i] - target[i]);                           \
  }                                                                                                                            \
  template double name##_forward_reference(const float*, const float*, int64_t, double);                                       \
  template double name##_forward_reference(const double*, const double*, int64_t, double);                                     \
  template void name##_backward_reference(const float*, const float*, const float*, float*, int64_t, double);                  \
  template void name##_backward_reference(const double*, const double*, const double*, double*, int64_t, double);
OCTAVO_ERROR_LOSSES(DEFINE)
