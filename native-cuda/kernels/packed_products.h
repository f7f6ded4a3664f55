// Products of small matrices that are packed once and multiplied often: attention's, whose head width is 24 to 128. AVX-512 only.
// Memory is counted in units of 32 bits: one f32, or two neighbouring bf16 of the summed index, which one instruction multiplies.
//   C (m, n) = alpha * sum over units l of A[i, l] * B[l, j]     B: rows of whole vectors, from pack_*     C: f32
// PP-1: n and ldb are multiples of 16 (kVectorUnits). A may be read along rows (step 1) or along columns (row 1).
// PP-2: an element of C has the same bits wherever it stands in C, and however C is cut.
// PP-3: bf16 products are exact and summed in f32 in the order of l; denormals count as zero there.
#pragma once
#include <cstdint>

#include "../common/bf16.h"

#if defined(__x86_64__)
#define OCTAVO_PACKED_PRODUCTS
// For T = float nothing of avx512bf16 is used: GCC makes those instructions from their intrinsics alone.
#define OCTAVO_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define OCTAVO_AVX512_INLINE inline __attribute__((always_inline, target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

constexpr int64_t kVectorUnits = 16;
template <class T> constexpr int64_t kPerUnit = static_cast<int64_t>(sizeof(uint32_t) / sizeof(T));
constexpr int64_t whole_vectors(int64_t units) { return (units + kVectorUnits - 1) / kVectorUnits * kVectorUnits; }
template <class T> constexpr int64_t units_of(int64_t elements) { return (elements + kPerUnit<T> - 1) / kPerUnit<T>; }

/// Whether this machine (and OCTAVO_ISA) has the instructions.
template <class T> bool packed_products_run();
template <> bool packed_products_run<float>();
template <> bool packed_products_run<Bf16>();

/// Left operand: element (i, unit l) lies at data[i * row + l * step].
struct PackedLeft {
  const uint32_t* data;
  int64_t row, step;
};

/// C = alpha * A * B, or C += alpha * A * B. `depth` in units.
template <class T>
void packed_product_avx512(int64_t m, int64_t n, int64_t depth, PackedLeft a, const uint32_t* b, int64_t ldb, float alpha, float* c, int64_t ldc, bool add);

/// Sixteen rows of `width` elements (null: zeros) become columns: out[unit * ld + row].
template <class T> OCTAVO_AVX512 void pack_columns_avx512(const T* const (&rows)[16], int64_t width, uint32_t* out, int64_t ld);
/// One row of `width` elements, zeros up to a whole vector: a row of A.
template <class T> OCTAVO_AVX512 void pack_row_avx512(const T* row, int64_t width, uint32_t* out);
/// kPerUnit rows (null: zeros), interleaved: out[c] holds element c of each. A row of B, of whole vectors.
template <class T> OCTAVO_AVX512 void pack_depth_avx512(const T* const (&rows)[kPerUnit<T>], int64_t width, uint32_t* out);
#endif
