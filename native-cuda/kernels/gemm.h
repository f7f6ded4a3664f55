// Matrix product on one thread, row-major: C (m, n) = alpha * op(A) (m, k) * op(B) (k, n) + beta * C.
// GM-1: beta == 0 writes C without reading it.
// GM-2: bits depend on the arguments and the machine only, never on the number of threads that call it side by side.
// GM-3: oneDNN (opened at run time) computes it where present, the portable blocked version otherwise or when the
//       environment says OCTAVO_GEMM=portable; OCTAVO_GEMM=onednn insists. `gemm_library()` tells which and what was tried.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

void sgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b,
           int64_t ldb, float beta, float* c, int64_t ldc);

/// The same contract without any library: packed panels, register tiles.
void sgemm_portable(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                    const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

/// The same contract as three plain loops, for f64 and for the reference twins.
template <class T>
void gemm_reference(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda, const T* b,
                    int64_t ldb, T beta, T* c, int64_t ldc);

struct GemmLibrary {
  std::string library;             // "oneDNN" or "portable"
  std::string version;             // empty for the portable one
  std::vector<std::string> tried;  // one line per library tried: its name and what happened
};
const GemmLibrary& gemm_library();
