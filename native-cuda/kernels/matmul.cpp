#include "matmul.h"

#include "arguments.h"
#include "gemm_tiles.h"

void matmul(const float* a, const float* b, float* y, bool ta, bool tb, int64_t M, int64_t N, int64_t K, int threads) {
  gemm_tiled(ta, tb, M, N, K, a, ta ? M : K, b, tb ? K : N, y, N, threads);
}

OCTAVO_KERNEL(matmul) {
  const Arguments at(call, "matmul", {"a", "b", "y"}, {"transA", "transB"});
  at.floating(0);
  for (int i : {1, 2}) at.same_dtype(i, 0);
  for (int i : {0, 1, 2}) at.rank(i, 2);
  const bool ta = at.whole(0, 0, 1), tb = at.whole(1, 0, 1);
  const int64_t M = at[0].dim[ta ? 1 : 0], K = at[0].dim[ta ? 0 : 1], N = at[1].dim[tb ? 0 : 1];
  at.shape(1, {tb ? N : K, tb ? K : N});
  at.shape(2, {M, N});
  at.run([&](auto t) {
    using T = decltype(t);
    matmul_reference(at.data<T>(0), at.data<T>(1), at.data<T>(2), ta, tb, M, N, K);
  }, [&] { matmul(at.data<float>(0), at.data<float>(1), at.data<float>(2), ta, tb, M, N, K, at.threads()); });
}
