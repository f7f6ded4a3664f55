// Matrix product on one thread, row-major: C (m, n) = op(A) (m, k) * op(B) (k, n), in f32 or with bf16 operands.
// GM-1: a C that is not added to is written without being read.
// GM-2: bits depend on the arguments and the machine only, never on the number of threads that call it side by side.
// GM-3: oneDNN (opened at run time) computes it where present, the portable blocked version otherwise or when the
//       environment says OCTAVO_GEMM=portable; OCTAVO_GEMM=onednn insists. `gemm_library()` tells which and what was tried.
// GM-4: products of bf16 are summed in f32, and a bf16 C is rounded once, after the bias. Where the machine or the library
//       has no fast bf16 product, the operands are widened (exactly) and multiplied in f32.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../common/bf16.h"

/// C = alpha * op(A) * op(B) + beta * C.
void sgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b,
           int64_t ldb, float beta, float* c, int64_t ldc);

/// C = op(A) * op(B) [+ bias (n) on every row] [+ C when `add`]. (In, Out) is (float, float), (Bf16, float) or (Bf16, Bf16);
/// `add` is for f32 C. Fastest where A, B and C are dense: lda, ldb and ldc as narrow as they can be.
template <class In, class Out>
void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const In* a, int64_t lda, const In* b, int64_t ldb, Out* c,
          int64_t ldc, const float* bias = nullptr, bool add = false);

/// sgemm without any library: packed panels, register tiles.
void sgemm_portable(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                    const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

/// gemm of bf16 by widening blocks of the operands for sgemm.
template <class Out>
void gemm_widened(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const Bf16* a, int64_t lda, const Bf16* b, int64_t ldb,
                  Out* c, int64_t ldc, const float* bias, bool add);

/// sgemm as three plain loops, for f64 and for the reference twins.
template <class T>
void gemm_reference(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b,
                    int64_t ldb, T beta, T* c, int64_t ldc);

/// c[i][j] += bias[j] over (rows, cols).
void add_bias(float* c, int64_t ldc, const float* bias, int64_t rows, int64_t cols);

struct GemmLibrary {
  std::string library;             // "oneDNN" or "portable"
  std::string version;             // empty for the portable one
  bool fast_bf16 = false;          // products of bf16 are computed as such, not widened
  std::string f32, bf16;           // how products of each are computed, for people: "primitives brg:avx512_core, dnnl_sgemm"
  std::vector<std::string> tried;  // one line per library tried: its name and what happened
};
const GemmLibrary& gemm_library();
