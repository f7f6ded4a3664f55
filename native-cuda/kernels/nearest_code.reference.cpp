#include "nearest_code.h"

#include <limits>

template <class T>
void nearest_code_reference(const T* z, const T* codebook, int32_t* codes, int64_t rows, int64_t count, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, z += width) {
    T least = std::numeric_limits<T>::infinity();
    codes[r] = 0;
    for (int64_t k = 0; k < count; ++k) {
      T distance = 0;
      for (int64_t d = 0; d < width; ++d) {
        const T difference = z[d] - codebook[k * width + d];
        distance += difference * difference;
      }
      if (distance < least) least = distance, codes[r] = static_cast<int32_t>(k);
    }
  }
}

template void nearest_code_reference(const float*, const float*, int32_t*, int64_t, int64_t, int64_t);
template void nearest_code_reference(const double*, const double*, int32_t*, int64_t, int64_t, int64_t);
