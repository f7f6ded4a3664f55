#include "broadcast.h"

// Offset in `t` of element `index` (row-major) of a tensor of the shape of `full`; repeated dimensions count as 0.
static int64_t offset_in(const TensorView& t, const TensorView& full, int64_t index) {
  int64_t offset = 0, stride = 1;
  for (int d = full.rank - 1, e = t.rank - 1; d >= 0; --d, --e) {
    const int64_t at = index % full.dim[d];
    index /= full.dim[d];
    if (e < 0) continue;
    if (t.dim[e] != 1) offset += at * stride;
    stride *= t.dim[e];
  }
  return offset;
}

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
