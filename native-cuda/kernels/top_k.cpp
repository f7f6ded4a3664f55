#include "top_k.h"

#include <numeric>

#include "arguments.h"
#include "lanes.h"
#include "tiles.h"

/// The first largest column. A peak that no element equals means that the row holds NaN alone, or NaN and -infinity.
OCTAVO_CLONES static int32_t largest(const float* x, int64_t cols) {
  int32_t nans = 0;
#pragma omp simd reduction(+ : nans)
  for (int64_t c = 0; c < cols; ++c) nans += x[c] != x[c];
  if (nans == 0) {
    const float peak = row_peak(x, cols);
    for (int64_t c = 0; c < cols; ++c) if (x[c] == peak) return static_cast<int32_t>(c);
  }
  for (int64_t c = 0; c < cols; ++c) if (x[c] != x[c]) return static_cast<int32_t>(c);
  return 0;
}

void top_k_forward(const float* x, float* y, int32_t* at, int64_t rows, int64_t cols, int64_t k, int threads) {
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) {
    std::vector<int32_t> order(k == 1 ? 0 : static_cast<size_t>(cols));
    for (int64_t r = first; r < last; ++r) {
      const float* in = x + r * cols;
      if (k == 1) {
        at[r] = largest(in, cols);
      } else {
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + k, order.end(), Larger<float>{in});
        std::copy_n(order.begin(), k, at + r * k);
      }
      for (int64_t i = 0; i < k; ++i) y[r * k + i] = in[at[r * k + i]];
    }
  });
}

void top_k_backward(const float* dy, const int32_t* at, float* dx, int64_t rows, int64_t cols, int64_t k, int threads) {
  row_tiles<kLightTile>(rows, cols, threads, [&](int64_t first, int64_t last) {
    std::fill(dx + first * cols, dx + last * cols, 0.0f);
    for (int64_t r = first; r < last; ++r)
      for (int64_t i = 0; i < k; ++i) dx[r * cols + at[r * k + i]] = dy[r * k + i];
  });
}

OCTAVO_KERNEL(top_k_forward) {
  const Arguments a(call, "top_k_forward", {"x", "y", "at"}, {"k"});
  const int64_t rows = a.rows(0), cols = a.cols(0), k = a.whole(0, 1, std::max<int64_t>(1, cols));
  a.floating(0), a.same_dtype(1, 0), a.count(1, rows * k, "(R, k)"), a.dtype(2, DType::i32), a.count(2, rows * k, "(R, k)");
  if (rows > 0 && cols == 0) throw std::invalid_argument("top_k_forward: x expected at least one column, got " + shape_text(a[0]));
  auto* at = a.data<int32_t>(2);
  a.run([&]<class T>(T) { top_k_forward_reference(a.data<const T>(0), a.data<T>(1), at, rows, cols, k); },
        [&] { top_k_forward(a.data<const float>(0), a.data<float>(1), at, rows, cols, k, a.threads()); });
}

OCTAVO_KERNEL(top_k_backward) {
  const Arguments a(call, "top_k_backward", {"dy", "at", "dx"}, {"k"});
  const int64_t rows = a.rows(2), cols = a.cols(2), k = a.whole(0, 1, std::max<int64_t>(1, cols));
  a.floating(0), a.count(0, rows * k, "(R, k)"), a.dtype(1, DType::i32), a.count(1, rows * k, "(R, k)"), a.same_dtype(2, 0);
  const auto* at = a.data<const int32_t>(1);
  check_ids(a.kernel(), "at", at, rows * k, cols, false);
  a.run([&]<class T>(T) { top_k_backward_reference(a.data<const T>(0), at, a.data<T>(2), rows, cols, k); },
        [&] { top_k_backward(a.data<const float>(0), at, a.data<float>(2), rows, cols, k, a.threads()); });
}
