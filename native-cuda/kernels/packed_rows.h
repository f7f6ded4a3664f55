// Rows of scores and weights of packed attention: whole vectors of 16, `width` of them in elements, outside [begin, end) weight 0.
// Rows of bf16 are narrowed where they stand: element j of the f32 row becomes element j of a bf16 row at the same address.
#pragma once
#include "packed_products.h"

#ifdef OCTAVO_PACKED_PRODUCTS
struct PackedSoftmax {
  float lse, inverse;  // inverse of the denominator; -infinity and 0 when nothing is seen
};

/// A row of `width` scores of which [begin, end) are seen; lse and delta for backward.
struct PackedRow {
  int64_t begin, end, width;
  float lse, delta;
};

/// scores become exp(score - their peak).
OCTAVO_AVX512 PackedSoftmax exponentials_avx512(float* scores, int64_t begin, int64_t end, int64_t width);
/// scores become exp(score - lse); all 0 where lse is -infinity.
OCTAVO_AVX512 void weights_avx512(float* scores, const PackedRow& row);
/// gradient = dropped * gradient - weight * delta.
OCTAVO_AVX512 void score_gradient_avx512(const float* weight, const float* dropped, float* gradient, const PackedRow& row);
/// Both in one pass, without dropout.
OCTAVO_AVX512 void weights_and_gradient_avx512(float* scores, float* gradient, const PackedRow& row);
/// sum += x.
OCTAVO_AVX512 void add_row_avx512(const float* x, float* sum, int64_t width);
/// sum of a * b.
OCTAVO_AVX512 float dot_avx512(const float* a, const float* b, int64_t n);
OCTAVO_AVX512 float dot_avx512(const Bf16* a, const Bf16* b, int64_t n);
/// out = factor * x, rounded once in bf16.
template <class T> OCTAVO_AVX512 void store_row_avx512(const float* x, float factor, T* out, int64_t n);
OCTAVO_AVX512 void narrow_in_place_avx512(float* row, int64_t width);
/// out[j] = row j of `even` and of `odd` (null: zeros) as a pair of bf16.
OCTAVO_AVX512 void narrow_pairs_avx512(const float* even, const float* odd, uint32_t* out, int64_t width);
#endif
