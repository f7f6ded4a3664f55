#include "attention_merge.h"

#include <algorithm>
#include <cmath>
#include <limits>

template <class T> void attention_merge_reference(const MergeShape& s, T* y, T* lse, const T* more_y, const T* more_lse) {
  for (int64_t b = 0; b < s.B; ++b)
    for (int64_t h = 0; h < s.H; ++h)
      for (int64_t i = 0; i < s.N; ++i) {
        const int64_t row = (b * s.H + h) * s.N + i, first = ((b * s.N + i) * s.H + h) * s.K;
        const T peak = std::max(lse[row], more_lse[row]);
        if (peak == -std::numeric_limits<T>::infinity()) continue;
        const T merged = peak + std::log(std::exp(lse[row] - peak) + std::exp(more_lse[row] - peak));
        const T old_part = std::exp(lse[row] - merged), new_part = std::exp(more_lse[row] - merged);
        for (int64_t k = first; k < first + s.K; ++k) y[k] = old_part * y[k] + new_part * more_y[k];
        lse[row] = merged;
      }
}

template void attention_merge_reference<float>(const MergeShape&, float*, float*, const float*, const float*);
template void attention_merge_reference<double>(const MergeShape&, double*, double*, const double*, const double*);
