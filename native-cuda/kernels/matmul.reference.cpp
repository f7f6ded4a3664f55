#include "matmul.h"

#include "gemm.h"

template <class T> void matmul_reference(const T* a, const T* b, T* y, bool ta, bool tb, int64_t M, int64_t N, int64_t K) {
  gemm_reference<T>(ta, tb, M, N, K, 1, a, ta ? M : K, b, tb ? K : N, 0, y, N);
}

template void matmul_reference<float>(const float*, const float*, float*, bool, bool, int64_t, int64_t, int64_t);
template void matmul_reference<double>(const double*, const double*, double*, bool, bool, int64_t, int64_t, int64_t);
