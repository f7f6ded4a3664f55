#include "mask_rows.h"

#include "arguments.h"
#include "tiles.h"

OCTAVO_CLONES static void add_row(const float* x, float* line, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) line[c] += x[c];
}

void mask_rows_forward(const Floats& x, const uint8_t* mask, const Floats& token, const Floats& y, int64_t rows, int64_t cols, int threads) {
  row_tiles<kLightTile>(rows, cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      if (mask[r]) y.copy(r * cols, token, 0, cols);
      else y.copy(r * cols, x, r * cols, cols);
    }
  });
}

void mask_rows_backward(const Floats& dy, const uint8_t* mask, const Floats& dx, float* dtoken, int64_t rows, int64_t cols, int threads) {
  column_sums(rows, cols, threads, dtoken, [&](int64_t first, int64_t last, float* line) {
    for (int64_t r = first; r < last; ++r) {
      const int64_t at = r * cols;
      if (mask[r]) add_row(dy.read<0>(at, cols), line, cols), dx.fill(at, cols, 0.0f);
      else dx.copy(at, dy, at, cols);
    }
  });
}

OCTAVO_KERNEL_BF16(mask_rows_forward, OwnBf16::any()) {
  const Arguments a(call, "mask_rows_forward", {"x", "mask", "token", "y"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.mask(1), a.count(1, rows, "(R)"), a.same_arithmetic(2, 0), a.count(2, cols, "(C)"), a.same_shape(3, 0);
  const auto* mask = a.data<const uint8_t>(1);
  a.run([&]<class T>(T) { mask_rows_forward_reference(a.data<const T>(0), mask, a.data<const T>(2), a.data<T>(3), rows, cols); },
        [&] { mask_rows_forward(a.floats(0), mask, a.floats(2), a.floats(3), rows, cols, a.threads()); });
}

OCTAVO_KERNEL_BF16(mask_rows_backward, OwnBf16::operands(0, 2)) {
  const Arguments a(call, "mask_rows_backward", {"dy", "mask", "dx", "dtoken"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.mask(1), a.count(1, rows, "(R)"), a.same_shape(2, 0), a.arithmetic(3, 0), a.count(3, cols, "(C)");
  const auto* mask = a.data<const uint8_t>(1);
  a.run([&]<class T>(T) { mask_rows_backward_reference(a.data<const T>(0), mask, a.data<T>(2), a.data<T>(3), rows, cols); },
        [&] { mask_rows_backward(a.floats(0), mask, a.floats(2), a.data<float>(3), rows, cols, a.threads()); });
}
