#include "sum.h"

template <class T> double sum_all_reference(const T* x, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += x[i];
  return total;
}

template <class T> void sum_all_backward_reference(const T* dy, T* dx, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dx[i] = dy[0];
}

template <class T> double sum_squares_reference(const T* x, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

template double sum_all_reference(const float*, int64_t);
template double sum_all_reference(const double*, int64_t);
template void sum_all_backward_reference(const float*, float*, int64_t);
template void sum_all_backward_reference(const double*, double*, int64_t);
template double sum_squares_reference(const float*, int64_t);
template double sum_squares_reference(const double*, int64_t);
