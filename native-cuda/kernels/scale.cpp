#include "scale.h"

#include "arguments.h"
#include "tiles.h"

OCTAVO_CLONES static void scale_tile(const float* x, float* y, int64_t n, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}

OCTAVO_CLONES static void accumulate_tile(const float* x, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

void scale(const float* x, float* y, int64_t n, double factor, int threads) {
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { scale_tile(x + begin, y + begin, end - begin, static_cast<float>(factor)); });
}

void accumulate(const float* x, float* y, int64_t n, int threads) {
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { accumulate_tile(x + begin, y + begin, end - begin); });
}

OCTAVO_KERNEL(scale) {
  const Arguments a(call, "scale", {"x", "y"}, {"factor"});
  a.floating(0), a.like(1, 0);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { scale_reference(a.data<const T>(0), a.data<T>(1), n, a.scalar(0)); },
        [&] { scale(a.data<const float>(0), a.data<float>(1), n, a.scalar(0), a.threads()); });
}

OCTAVO_KERNEL(accumulate) {
  const Arguments a(call, "accumulate", {"x", "y"});
  a.floating(0), a.like(1, 0);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { accumulate_reference(a.data<const T>(0), a.data<T>(1), n); },
        [&] { accumulate(a.data<const float>(0), a.data<float>(1), n, a.threads()); });
}
