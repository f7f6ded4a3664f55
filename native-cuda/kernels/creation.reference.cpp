#include "creation.h"

#include <cmath>
#include <limits>
#include <type_traits>

template <class T> void fill_reference(T* y, T value, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = value;
}

template <class T> void copy_reference(const T* x, T* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i];
}

template <class From, class To> void cast_reference(const From* x, To* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_integral_v<To>) {
      const double value = std::trunc(static_cast<double>(x[i]));
      const double low = std::numeric_limits<To>::min(), high = std::numeric_limits<To>::max();
      y[i] = std::isnan(value) ? To{0} : static_cast<To>(value < low ? low : value > high ? high : value);
    } else {
      y[i] = static_cast<To>(x[i]);
    }
  }
}

template void fill_reference<float>(float*, float, int64_t);
template void fill_reference<double>(double*, double, int64_t);
template void copy_reference<float>(const float*, float*, int64_t);
template void copy_reference<double>(const double*, double*, int64_t);
#define CASTS_FROM(From)                                              \
  template void cast_reference(const From*, float*, int64_t);         \
  template void cast_reference(const From*, double*, int64_t);        \
  template void cast_reference(const From*, int32_t*, int64_t);       \
  template void cast_reference(const From*, uint8_t*, int64_t);
CASTS_FROM(float)
CASTS_FROM(double)
CASTS_FROM(int32_t)
CASTS_FROM(uint8_t)
