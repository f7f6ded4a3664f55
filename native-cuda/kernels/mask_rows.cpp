#include "mask_rows.h"

#include <cstring>

#include "arguments.h"
#include "tiles.h"

void mask_rows_forward(const float* x, const uint8_t* mask, const float* token, float* y, int64_t rows, int64_t cols, int threads) {
  const size_t row_bytes = static_cast<size_t>(cols) * sizeof(float);
  row_tiles<kLightTile>(rows, cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float* source = mask[r] ? token : x + r * cols;
      if (source != y + r * cols) std::memcpy(y + r * cols, source, row_bytes);
    }
  });
}

void mask_rows_backward(const float* dy, const uint8_t* mask, float* dx, float* dtoken, int64_t rows, int64_t cols, int threads) {
  column_sums(rows, cols, threads, dtoken, [&](int64_t first, int64_t last, float* line) {
    for (int64_t r = first; r < last; ++r) {
      const float* d = dy + r * cols;
      float* out = dx + r * cols;
      if (mask[r]) {
        for (int64_t c = 0; c < cols; ++c) line[c] += d[c];
        std::memset(out, 0, static_cast<size_t>(cols) * sizeof(float));
      } else if (out != d) {
        std::memcpy(out, d, static_cast<size_t>(cols) * sizeof(float));
      }
    }
  });
}

OCTAVO_KERNEL(mask_rows_forward) {
  const Arguments a(call, "mask_rows_forward", {"x", "mask", "token", "y"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.mask(1), a.count(1, rows, "(R)"), a.same_dtype(2, 0), a.count(2, cols, "(C)"), a.like(3, 0);
  const auto* mask = a.data<const uint8_t>(1);
  a.run([&]<class T>(T) { mask_rows_forward_reference(a.data<const T>(0), mask, a.data<const T>(2), a.data<T>(3), rows, cols); },
        [&] { mask_rows_forward(a.data<const float>(0), mask, a.data<const float>(2), a.data<float>(3), rows, cols, a.threads()); });
}

OCTAVO_KERNEL(mask_rows_backward) {
  const Arguments a(call, "mask_rows_backward", {"dy", "mask", "dx", "dtoken"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.mask(1), a.count(1, rows, "(R)"), a.like(2, 0), a.same_dtype(3, 0), a.count(3, cols, "(C)");
  const auto* mask = a.data<const uint8_t>(1);
  a.run([&]<class T>(T) { mask_rows_backward_reference(a.data<const T>(0), mask, a.data<T>(2), a.data<T>(3), rows, cols); },
        [&] { mask_rows_backward(a.data<const float>(0), mask, a.data<float>(2), a.data<float>(3), rows, cols, a.threads()); });
}
