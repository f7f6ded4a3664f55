#include "rope.h"

#include <cmath>

template <class T>
void rope_reference(const T* x, const int32_t* positions, const T* frequency, T* y, int64_t tokens, int64_t heads,
                    int64_t head_width, int direction) {
  const int64_t half = head_width / 2;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads; ++h, x += head_width, y += head_width)
      for (int64_t i = 0; i < half; ++i) {
        const T angle = static_cast<T>(positions[t]) * frequency[i];
        const T cosine = std::cos(angle), sine = std::sin(angle) * static_cast<T>(direction);
        const T first = x[i], second = x[i + half];
        y[i] = first * cosine - second * sine;
        y[i + half] = second * cosine + first * sine;
      }
}

template void rope_reference(const float*, const int32_t*, const float*, float*, int64_t, int64_t, int64_t, int);
template void rope_reference(const double*, const int32_t*, const double*, double*, int64_t, int64_t, int64_t, int);
