#include "broadcast.h"

#include "nest.h"

template <class T, class F> static void each(const TensorView& a, const TensorView& b, const TensorView& y, F f) {
  for (int64_t i = 0; i < y.numel; ++i) y.as<T>()[i] = f(a.as<const T>()[offset_in(a, y, i)], b.as<const T>()[offset_in(b, y, i)]);
}

template <class T> void add_reference(const TensorView& a, const TensorView& b, const TensorView& y) {
  each<T>(a, b, y, [](T p, T q) { return p + q; });
}
template <class T> void sub_reference(const TensorView& a, const TensorView& b, const TensorView& y) {
  each<T>(a, b, y, [](T p, T q) { return p - q; });
}
template <class T> void mul_reference(const TensorView& a, const TensorView& b, const TensorView& y) {
  each<T>(a, b, y, [](T p, T q) { return p * q; });
}
template <class T> void div_reference(const TensorView& a, const TensorView& b, const TensorView& y) {
  each<T>(a, b, y, [](T p, T q) { return p / q; });
}

template <class T> void sum_to_reference(const TensorView& x, const TensorView& y) {
  for (int64_t i = 0; i < y.numel; ++i) y.as<T>()[i] = 0;
  for (int64_t i = 0; i < x.numel; ++i) y.as<T>()[offset_in(y, x, i)] += x.as<const T>()[i];
}

#define INSTANTIATE(T)                                                                             \
  template void add_reference<T>(const TensorView&, const TensorView&, const TensorView&);         \
  template void sub_reference<T>(const TensorView&, const TensorView&, const TensorView&);         \
  template void mul_reference<T>(const TensorView&, const TensorView&, const TensorView&);         \
  template void div_reference<T>(const TensorView&, const TensorView&, const TensorView&);         \
  template void sum_to_reference<T>(const TensorView&, const TensorView&);
INSTANTIATE(float)
INSTANTIATE(double)
