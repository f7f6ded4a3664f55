#include "dropout.h"

#include <cmath>
#include <limits>

#include "philox.h"

template <class T>
void dropout_reference(const T* x, const int32_t* sample_ids, T* y, int64_t batch, int64_t sample_elements, const DropoutSite& site) {
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t e = 0; e < sample_elements; ++e) {
      const uint32_t word = philox(site.key(), site.stream(sample_ids[b]), static_cast<uint64_t>(e / 4))[e % 4];
      const bool kept = word * 0x1p-32 >= site.p;
      y[b * sample_elements + e] = kept ? x[b * sample_elements + e] * static_cast<T>(1 / (1 - site.p)) : 0;
    }
}

template <class T> void philox_uniform_reference(T* y, int64_t n, uint64_t key, uint64_t stream) {
  const T below_one = std::nextafter(T(1), T(0));
  for (int64_t i = 0; i < n; ++i) {
    const T u = static_cast<T>(philox(key, stream, static_cast<uint64_t>(i / 4))[i % 4] * 0x1p-32);
    y[i] = u < below_one ? u : below_one;
  }
}

template void dropout_reference(const float*, const int32_t*, float*, int64_t, int64_t, const DropoutSite&);
template void dropout_reference(const double*, const int32_t*, double*, int64_t, int64_t, const DropoutSite&);
template void philox_uniform_reference(float*, int64_t, uint64_t, uint64_t);
template void philox_uniform_reference(double*, int64_t, uint64_t, uint64_t);
