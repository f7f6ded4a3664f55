#include "l2_normalize.h"

#include <cmath>

#include "arguments.h"
#include "lanes.h"
#include "tiles.h"

OCTAVO_CLONES static void forward_rows(const float* x, float* y, float* norm, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * cols;
    float* out = y + r * cols;
    const float n = std::max(std::sqrt(row_dot(in, in, cols)), static_cast<float>(kSmallestNorm));
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = in[c] / n;
    norm[r] = n;
  }
}

OCTAVO_CLONES static void backward_rows(const float* dy, const float* y, const float* norm, float* dx, int64_t rows,
                                        int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const float *d = dy + r * cols, *unit = y + r * cols;
    float* out = dx + r * cols;
    const float n = norm[r];
    const float along = row_dot(unit, d, cols);
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = (d[c] - unit[c] * along) / n;
  }
}

void l2_normalize_forward(const Floats& x, const Floats& y, float* norm, int64_t rows, int64_t cols, int threads) {
  row_pieces<kLightTile>(rows, cols, threads, {x, y}, [&](int64_t first, int64_t last) {
    const int64_t at = first * cols, n = (last - first) * cols;
    forward_rows(x.read<0>(at, n), y.write<1>(at, n), norm + first, last - first, cols);
  });
}

void l2_normalize_backward(const Floats& dy, const Floats& y, const float* norm, const Floats& dx, int64_t rows, int64_t cols, int threads) {
  row_pieces<kLightTile>(rows, cols, threads, {dy, y, dx}, [&](int64_t first, int64_t last) {
    const int64_t at = first * cols, n = (last - first) * cols;
    backward_rows(dy.read<0>(at, n), y.read<1>(at, n), norm + first, dx.write<2>(at, n), last - first, cols);
  });
}

OCTAVO_KERNEL_BF16(l2_normalize_forward, OwnBf16::operands(0, 1)) {
  const Arguments a(call, "l2_normalize_forward", {"x", "y", "norm"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.same_shape(1, 0), a.arithmetic(2, 0), a.count(2, rows, "(R)");
  a.run([&]<class T>(T) { l2_normalize_forward_reference(a.data<const T>(0), a.data<T>(1), a.data<T>(2), rows, cols); },
        [&] { l2_normalize_forward(a.floats(0), a.output(1), a.data<float>(2), rows, cols, a.threads()); });
}

OCTAVO_KERNEL_BF16(l2_normalize_backward, OwnBf16::operands(0, 1, 3)) {
  const Arguments a(call, "l2_normalize_backward", {"dy", "y", "norm", "dx"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.same_shape(1, 0), a.arithmetic(2, 0), a.count(2, rows, "(R)"), a.same_shape(3, 0);
  a.run(
      [&]<class T>(T) {
        l2_normalize_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), rows, cols);
      },
      [&] {
        l2_normalize_backward(a.floats(0), a.floats(1), a.data<const float>(2), a.output(3), rows, cols, a.threads());
      });
}
