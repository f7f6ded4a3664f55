#include "packed_products.h"

#ifdef OCTAVO_PACKED_PRODUCTS
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

namespace {
template <class T> OCTAVO_AVX512_INLINE __m512 multiply_add_avx512(__m512 sum, __m512i a, __m512i b) {
  if constexpr (std::is_same_v<T, Bf16>) return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  else return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
}

/// MR rows and V vectors of C stay in registers. Rows of A in threes: base + {0, 1, 2} * row needs no register per row.
template <class T, int MR, int V>
OCTAVO_AVX512_INLINE void tile_avx512(int64_t depth, PackedLeft a, const uint32_t* b, int64_t ldb, float alpha, float* c, int64_t ldc, bool add) {
  constexpr int kBases = (MR + 2) / 3;
  __m512 sum[MR][V];
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[i][v] = _mm512_setzero_ps();
  const uint32_t* base[kBases];
#pragma GCC unroll 4
  for (int i = 0; i < kBases; ++i) base[i] = a.data + 3 * i * a.row;
  for (int64_t l = 0; l < depth; ++l, b += ldb) {
    __m512i row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = _mm512_loadu_si512(b + v * kVectorUnits);
#pragma GCC unroll 12
    for (int i = 0; i < MR; ++i) {
      const __m512i left = _mm512_set1_epi32(static_cast<int>(base[i / 3][i % 3 * a.row]));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] = multiply_add_avx512<T>(sum[i][v], left, row[v]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kBases; ++i) base[i] += a.step;
  }
  const __m512 factor = _mm512_set1_ps(alpha);
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i, c += ldc)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* out = c + v * kVectorUnits;
      _mm512_storeu_ps(out, add ? _mm512_fmadd_ps(factor, sum[i][v], _mm512_loadu_ps(out)) : _mm512_mul_ps(factor, sum[i][v]));
    }
}

/// `count` tiles below each other.
template <class T, int MR, int V>
OCTAVO_AVX512 void tiles_avx512(int64_t count, int64_t depth, PackedLeft a, const uint32_t* b, int64_t ldb, float alpha, float* c, int64_t ldc, bool add) {
  for (; count > 0; --count, a.data += MR * a.row, c += MR * ldc) tile_avx512<T, MR, V>(depth, a, b, ldb, alpha, c, ldc, add);
}

using Tiles = void (*)(int64_t, int64_t, PackedLeft, const uint32_t*, int64_t, float, float*, int64_t, bool);
constexpr int kTallest[] = {12, 12, 8, 6};  // rows beside 1, 2, 3, 4 vectors: at most 24 sums in the 32 registers

template <class T, int V, size_t... I> constexpr std::array<Tiles, 12> tiles_of(std::index_sequence<I...>) { return {tiles_avx512<T, static_cast<int>(I) + 1, V>...}; }
template <class T> constexpr std::array<Tiles, 12> kTiles[] = {
    tiles_of<T, 1>(std::make_index_sequence<kTallest[0]>()), tiles_of<T, 2>(std::make_index_sequence<kTallest[1]>()),
    tiles_of<T, 3>(std::make_index_sequence<kTallest[2]>()), tiles_of<T, 4>(std::make_index_sequence<kTallest[3]>())};

/// The elements [from, from + 16 units) of a row that has `width` of them; zeros beyond.
OCTAVO_AVX512_INLINE __m512i vector_of_row_avx512(const float* row, int64_t width, int64_t from) {
  const int64_t left = std::clamp<int64_t>(width - from, 0, 16);
  return _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << left) - 1), row + from);
}
OCTAVO_AVX512_INLINE __m512i vector_of_row_avx512(const Bf16* row, int64_t width, int64_t from) {
  const int64_t left = std::clamp<int64_t>(width - from, 0, 32);
  return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << left) - 1), row + from);
}

/// r[i][j] becomes r[j][i].
OCTAVO_AVX512_INLINE void transpose_avx512(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]), t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // r[4 i + j]: column j of each four, of rows 4 i to 4 i + 3
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]), r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]), r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88), t[4 + j] = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    t[8 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88), t[12 + j] = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0x88), r[8 + j] = _mm512_shuffle_i32x4(t[j], t[8 + j], 0xdd);
    r[4 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0x88), r[12 + j] = _mm512_shuffle_i32x4(t[4 + j], t[12 + j], 0xdd);
  }
}
}  // namespace

template <> bool packed_products_run<float>() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
template <> bool packed_products_run<Bf16>() { return packed_products_run<float>() && __builtin_cpu_supports("avx512bf16"); }

template <class T>
void packed_product_avx512(int64_t m, int64_t n, int64_t depth, PackedLeft a, const uint32_t* b, int64_t ldb, float alpha, float* c, int64_t ldc, bool add) {
  constexpr int64_t kWidest = 4;
  for (int64_t j = 0; j < n; j += kWidest * kVectorUnits) {
    const int64_t vectors = std::min(kWidest, (n - j) / kVectorUnits), tallest = kTallest[vectors - 1];
    const int64_t whole = m / tallest, rest = m % tallest, done = m - rest;
    if (whole > 0) kTiles<T>[vectors - 1][tallest - 1](whole, depth, a, b + j, ldb, alpha, c + j, ldc, add);
    if (rest > 0) kTiles<T>[vectors - 1][rest - 1](1, depth, {a.data + done * a.row, a.row, a.step}, b + j, ldb, alpha, c + done * ldc + j, ldc, add);
  }
}

template <class T> OCTAVO_AVX512 void pack_columns_avx512(const T* const (&rows)[16], int64_t width, uint32_t* out, int64_t ld) {
  const int64_t units = units_of<T>(width);
  for (int64_t first = 0; first < units; first += kVectorUnits) {
    __m512i r[16];
    for (int i = 0; i < 16; ++i) r[i] = rows[i] ? vector_of_row_avx512(rows[i], width, first * kPerUnit<T>) : _mm512_setzero_si512();
    transpose_avx512(r);
    const int64_t count = std::min(kVectorUnits, units - first);
    for (int64_t u = 0; u < count; ++u) _mm512_storeu_si512(out + (first + u) * ld, r[u]);
  }
}

template <class T> OCTAVO_AVX512 void pack_row_avx512(const T* row, int64_t width, uint32_t* out) {
  for (int64_t at = 0; at < units_of<T>(width); at += kVectorUnits) _mm512_storeu_si512(out + at, vector_of_row_avx512(row, width, at * kPerUnit<T>));
}

template <class T> OCTAVO_AVX512 void pack_depth_avx512(const T* const (&rows)[kPerUnit<T>], int64_t width, uint32_t* out) {
  for (int64_t at = 0; at < width; at += kVectorUnits) {
    if constexpr (std::is_same_v<T, float>) {
      _mm512_storeu_si512(out + at, rows[0] ? vector_of_row_avx512(rows[0], width, at) : _mm512_setzero_si512());
    } else {
      const auto mask = static_cast<__mmask16>((1u << std::min<int64_t>(16, width - at)) - 1);
      const auto half = [&](const Bf16* row) __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))) {
        return row ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row + at)) : _mm512_setzero_si512();
      };
      _mm512_storeu_si512(out + at, _mm512_or_si512(half(rows[0]), _mm512_slli_epi32(half(rows[1]), 16)));
    }
  }
}

#define OCTAVO_INSTANTIATE(T)                                                                                                                         \
  template void packed_product_avx512<T>(int64_t, int64_t, int64_t, PackedLeft, const uint32_t*, int64_t, float, float*, int64_t, bool); \
  template void pack_columns_avx512<T>(const T* const (&)[16], int64_t, uint32_t*, int64_t);                                                         \
  template void pack_row_avx512<T>(const T*, int64_t, uint32_t*);                                                                                     \
  template void pack_depth_avx512<T>(const T* const (&)[kPerUnit<T>], int64_t, uint32_t*);
OCTAVO_INSTANTIATE(float)
OCTAVO_INSTANTIATE(Bf16)
#endif
