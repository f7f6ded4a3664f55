#include "packed_rows.h"

#ifdef OCTAVO_PACKED_PRODUCTS
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace {
constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// exp(x) = 2^k 2^r with k + r = x log2 e, |r| <= 1/2. 2^r by a minimax polynomial of degree 5 (relative error 7.5e-8, reweighted
/// least squares at Chebyshev points). Worst relative error 1e-7 + 3e-8 |x|; exp(-infinity) = 0, NaN stays NaN.
OCTAVO_AVX512_INLINE __m512 exp_avx512(__m512 x) {
  const __m512 log2e = _mm512_set1_ps(1.44269504088896341f);
  x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x);  // exp(-110) is 0; a NaN is the second operand and stays
  const __m512 k = _mm512_roundscale_ps(_mm512_mul_ps(x, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_fmsub_ps(x, log2e, k);
  __m512 p = _mm512_set1_ps(1.3276471155e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6755413278e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5507132761e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022119724e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314696706e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0000000717f));
  return _mm512_scalef_ps(p, k);
}

/// scores outside [begin, end) become -infinity.
OCTAVO_AVX512_INLINE void hide_avx512(float* scores, int64_t begin, int64_t end, int64_t width) {
  std::fill_n(scores, begin, kNothing);
  std::fill(scores + end, scores + width, kNothing);
}
}  // namespace

OCTAVO_AVX512 PackedSoftmax exponentials_avx512(float* scores, int64_t begin, int64_t end, int64_t width) {
  hide_avx512(scores, begin, end, width);
  __m512 best = _mm512_set1_ps(kNothing);
  for (int64_t j = 0; j < width; j += kVectorUnits) best = _mm512_max_ps(_mm512_loadu_ps(scores + j), best);  // passes over a NaN
  const float peak = _mm512_reduce_max_ps(best);
  if (peak == kNothing) {
    std::fill_n(scores, width, 0.0f);
    return {kNothing, 0.0f};
  }
  const __m512 top = _mm512_set1_ps(peak);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < width; j += kVectorUnits) {
    const __m512 weight = exp_avx512(_mm512_sub_ps(_mm512_loadu_ps(scores + j), top));
    _mm512_storeu_ps(scores + j, weight);
    sum = _mm512_add_ps(sum, weight);
  }
  const float total = _mm512_reduce_add_ps(sum);
  return {peak + std::log(total), 1.0f / total};
}

OCTAVO_AVX512 void weights_avx512(float* scores, const PackedRow& row) {
  if (row.lse == kNothing) {
    std::fill_n(scores, row.width, 0.0f);
    return;
  }
  hide_avx512(scores, row.begin, row.end, row.width);
  const __m512 lse = _mm512_set1_ps(row.lse);
  for (int64_t j = 0; j < row.width; j += kVectorUnits) _mm512_storeu_ps(scores + j, exp_avx512(_mm512_sub_ps(_mm512_loadu_ps(scores + j), lse)));
}

OCTAVO_AVX512 void score_gradient_avx512(const float* weight, const float* dropped, float* gradient, const PackedRow& row) {
  const __m512 delta = _mm512_set1_ps(row.delta);
  for (int64_t j = 0; j < row.width; j += kVectorUnits) {
    const __m512 taken = _mm512_mul_ps(_mm512_loadu_ps(weight + j), delta);
    _mm512_storeu_ps(gradient + j, _mm512_fmsub_ps(_mm512_loadu_ps(dropped + j), _mm512_loadu_ps(gradient + j), taken));
  }
}

OCTAVO_AVX512 void weights_and_gradient_avx512(float* scores, float* gradient, const PackedRow& row) {
  if (row.lse == kNothing) {
    std::fill_n(scores, row.width, 0.0f);
    std::fill_n(gradient, row.width, 0.0f);
    return;
  }
  hide_avx512(scores, row.begin, row.end, row.width);
  const __m512 lse = _mm512_set1_ps(row.lse), delta = _mm512_set1_ps(row.delta);
  for (int64_t j = 0; j < row.width; j += kVectorUnits) {
    const __m512 weight = exp_avx512(_mm512_sub_ps(_mm512_loadu_ps(scores + j), lse));
    _mm512_storeu_ps(scores + j, weight);
    _mm512_storeu_ps(gradient + j, _mm512_mul_ps(weight, _mm512_sub_ps(_mm512_loadu_ps(gradient + j), delta)));
  }
}

OCTAVO_AVX512 void add_row_avx512(const float* x, float* sum, int64_t width) {
  for (int64_t j = 0; j < width; j += kVectorUnits) _mm512_storeu_ps(sum + j, _mm512_add_ps(_mm512_loadu_ps(sum + j), _mm512_loadu_ps(x + j)));
}

OCTAVO_AVX512 float dot_avx512(const float* a, const float* b, int64_t n) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += kVectorUnits) {
    const auto mask = static_cast<__mmask16>((1u << std::min(kVectorUnits, n - i)) - 1);
    sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, a + i), _mm512_maskz_loadu_ps(mask, b + i), sum);
  }
  return _mm512_reduce_add_ps(sum);
}

OCTAVO_AVX512 float dot_avx512(const Bf16* a, const Bf16* b, int64_t n) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += 2 * kVectorUnits) {
    const auto mask = static_cast<__mmask32>((uint64_t{1} << std::min(2 * kVectorUnits, n - i)) - 1);
    sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, a + i)), reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, b + i)));
  }
  return _mm512_reduce_add_ps(sum);
}

template <class T> OCTAVO_AVX512 void store_row_avx512(const float* x, float factor, T* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kVectorUnits) {
    const auto mask = static_cast<__mmask16>((1u << std::min(kVectorUnits, n - i)) - 1);
    const __m512 y = _mm512_mul_ps(_mm512_set1_ps(factor), _mm512_maskz_loadu_ps(mask, x + i));
    if constexpr (std::is_same_v<T, float>) _mm512_mask_storeu_ps(out + i, mask, y);
    else _mm256_mask_storeu_epi16(out + i, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(y)));
  }
}
template void store_row_avx512<float>(const float*, float, float*, int64_t);
template void store_row_avx512<Bf16>(const float*, float, Bf16*, int64_t);

OCTAVO_AVX512 void narrow_in_place_avx512(float* row, int64_t width) {
  auto* out = reinterpret_cast<__m256i_u*>(row);
  for (int64_t j = 0; j < width; j += kVectorUnits) _mm256_storeu_si256(out++, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(row + j))));
}

OCTAVO_AVX512 void narrow_pairs_avx512(const float* even, const float* odd, uint32_t* out, int64_t width) {
  alignas(64) uint16_t order[32];
  for (uint16_t i = 0; i < 16; ++i) order[2 * i] = i, order[2 * i + 1] = static_cast<uint16_t>(16 + i);
  const __m512i pairs = _mm512_load_si512(order);
  for (int64_t j = 0; j < width; j += kVectorUnits) {
    const __m512 second = odd ? _mm512_loadu_ps(odd + j) : _mm512_setzero_ps();
    const __m512bh both = _mm512_cvtne2ps_pbh(second, _mm512_loadu_ps(even + j));
    _mm512_storeu_si512(out + j, _mm512_permutexvar_epi16(pairs, reinterpret_cast<__m512i>(both)));
  }
}
#endif
