#include "bf16.h"

#include "clones.h"

OCTAVO_CLONES void widen(const Bf16* __restrict x, float* __restrict y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = widen(x[i]);
}

OCTAVO_CLONES void narrow(const float* __restrict x, Bf16* __restrict y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = narrow(x[i]);
}
