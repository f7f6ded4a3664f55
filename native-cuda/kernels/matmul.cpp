#include "matmul.h"

#include "../common/bf16.h"
#include "arguments.h"
#include "gemm_tiles.h"
#include "widening.h"

template <class In, class Out> void matmul(const In* a, const In* b, Out* y, bool ta, bool tb, int64_t M, int64_t N, int64_t K, int threads) {
  gemm_tiled(ta, tb, M, N, K, a, b, y, nullptr, threads);
}

OCTAVO_KERNEL_BF16(matmul, OwnBf16::any()) {
  const Arguments at(call, "matmul", {"a", "b", "y"}, {"transA", "transB"});
  const bool narrow = at[0].dtype == DType::bf16 && at[1].dtype == DType::bf16;
  if (!narrow && (at[0].dtype == DType::bf16 || at[1].dtype == DType::bf16 || at[2].dtype == DType::bf16)) return run_widened(octavo_kernel_matmul, call);
  if (!narrow) at.floating(0);
  at.same_dtype(1, 0);
  if (!narrow || at[2].dtype != DType::f32) at.same_dtype(2, 0);
  for (int i : {0, 1, 2}) at.rank(i, 2);
  const bool ta = at.whole(0, 0, 1), tb = at.whole(1, 0, 1);
  const int64_t M = at[0].dim[ta ? 1 : 0], K = at[0].dim[ta ? 0 : 1], N = at[1].dim[tb ? 0 : 1];
  at.shape(1, {tb ? N : K, tb ? K : N});
  at.shape(2, {M, N});
  const auto bf16 = [&](auto* y) { matmul(at.data<const Bf16>(0), at.data<const Bf16>(1), y, ta, tb, M, N, K, at.threads()); };
  if (narrow) return at[2].dtype == DType::f32 ? bf16(at.data<float>(2)) : bf16(at.data<Bf16>(2));
  at.run([&](auto t) {
    using T = decltype(t);
    matmul_reference(at.data<T>(0), at.data<T>(1), at.data<T>(2), ta, tb, M, N, K);
  }, [&] { matmul(at.data<const float>(0), at.data<const float>(1), at.data<float>(2), ta, tb, M, N, K, at.threads()); });
}
