#include "attention_merge.h"

#include <cmath>
#include <limits>

#include "arguments.h"
#include "tiles.h"

OCTAVO_CLONES static void merge_head(float* y, const float* more, int64_t n, float old_part, float new_part) {
#pragma omp simd
  for (int64_t k = 0; k < n; ++k) y[k] = old_part * y[k] + new_part * more[k];
}

void attention_merge(const MergeShape& s, float* y, float* lse, const float* more_y, const float* more_lse, int threads) {
  row_tiles<kLightTile>(s.B * s.N, s.H * s.K, threads, [&](int64_t first, int64_t last) {
    for (int64_t token = first; token < last; ++token)
      for (int64_t h = 0; h < s.H; ++h) {
        const int64_t row = (token / s.N * s.H + h) * s.N + token % s.N, at = (token * s.H + h) * s.K;
        const float peak = std::max(lse[row], more_lse[row]);
        if (peak == -std::numeric_limits<float>::infinity()) continue;
        const float merged = peak + std::log(std::exp(lse[row] - peak) + std::exp(more_lse[row] - peak));
        merge_head(y + at, more_y + at, s.K, std::exp(lse[row] - merged), std::exp(more_lse[row] - merged));
        lse[row] = merged;
      }
  });
}

OCTAVO_KERNEL(attention_merge) {
  const Arguments a(call, "attention_merge", {"y", "lse", "moreY", "moreLse"}, {"heads"});
  const int64_t heads = a.whole(0, 1, 1 << 20);
  a.floating(0), a.rank(0, 3), a.like(2, 0), a.same_dtype(1, 0), a.like(3, 1);
  const MergeShape s{a[0].dim[0], a[0].dim[1], heads, a[0].dim[2] / heads};
  a.shape(1, {s.B, heads, s.N});
  if (s.K * heads != a[0].dim[2]) fail("attention_merge: y expected a last dimension of %lld heads, got %s", static_cast<long long>(heads), shape_text(a[0]).c_str());
  a.run([&]<class T>(T) { attention_merge_reference(s, a.data<T>(0), a.data<T>(1), a.data<const T>(2), a.data<const T>(3)); },
        [&] { attention_merge(s, a.data<float>(0), a.data<float>(1), a.data<const float>(2), a.data<const float>(3), a.threads()); });
}
