#include "compare.h"

#include "nest.h"

#define DEFINE(name, op)                                                                                      \
  template <class T> void name##_reference(const TensorView& a, const TensorView& b, const TensorView& y) {   \
    for (int64_t i = 0; i < y.numel; ++i)                                                                     \
      y.as<uint8_t>()[i] = a.as<const T>()[offset_in(a, y, i)] op b.as<const T>()[offset_in(b, y, i)];        \
  }                                                                                                           \
  template void name##_reference<float>(const TensorView&, const TensorView&, const TensorView&);             \
  template void name##_reference<double>(const TensorView&, const TensorView&, const TensorView&);            \
  template void name##_reference<int32_t>(const TensorView&, const TensorView&, const TensorView&);
OCTAVO_COMPARISONS(DEFINE)

template <class T> void where_reference(const TensorView& mask, const TensorView& a, const TensorView& b, const TensorView& y) {
  for (int64_t i = 0; i < y.numel; ++i)
    y.as<T>()[i] = mask.as<const uint8_t>()[offset_in(mask, y, i)] ? a.as<const T>()[offset_in(a, y, i)]
                                                                     : b.as<const T>()[offset_in(b, y, i)];
}
template void where_reference<uint32_t>(const TensorView&, const TensorView&, const TensorView&, const TensorView&);
template void where_reference<uint64_t>(const TensorView&, const TensorView&, const TensorView&, const TensorView&);
