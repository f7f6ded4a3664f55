#include "rms_norm.h"

#include <cmath>

#include "arguments.h"
#include "tiles.h"

OCTAVO_CLONES static void forward_rows(const float* x, const float* w, float* y, float* rstd, int64_t rows, int64_t cols,
                                       float eps) {
  const float inverse = 1.0f / static_cast<float>(std::max<int64_t>(1, cols));
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * cols;
    float* out = y + r * cols;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < cols; ++c) squares += in[c] * in[c];
    const float scale = 1.0f / std::sqrt(squares * inverse + eps);
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = w[c] * (in[c] * scale);
    rstd[r] = scale;
  }
}

OCTAVO_CLONES static void backward_input_rows(const float* dy, const float* x, const float* w, const float* rstd, float* dx,
                                              int64_t rows, int64_t cols) {
  const float inverse = 1.0f / static_cast<float>(std::max<int64_t>(1, cols));
  for (int64_t r = 0; r < rows; ++r) {
    const float *d = dy + r * cols, *in = x + r * cols;
    float* out = dx + r * cols;
    const float scale = rstd[r];
    float sum_xg = 0;
#pragma omp simd reduction(+ : sum_xg)
    for (int64_t c = 0; c < cols; ++c) sum_xg += in[c] * scale * (w[c] * d[c]);
    const float mean_xg = sum_xg * inverse;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = scale * (w[c] * d[c] - in[c] * scale * mean_xg);
  }
}

OCTAVO_CLONES static void backward_weight_rows(const float* dy, const float* x, const float* rstd, float* dw, int64_t rows,
                                               int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const float *d = dy + r * cols, *in = x + r * cols;
    const float scale = rstd[r];
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) dw[c] += d[c] * (in[c] * scale);
  }
}

void rms_norm_forward(const Floats& x, const float* w, const Floats& y, float* rstd, int64_t rows, int64_t cols, double eps, int threads) {
  row_pieces<kLightTile>(rows, cols, threads, {x, y}, [&](int64_t first, int64_t last) {
    const int64_t at = first * cols, n = (last - first) * cols;
    forward_rows(x.read<0>(at, n), w, y.write<1>(at, n), rstd + first, last - first, cols, static_cast<float>(eps));
  });
}

void rms_norm_backward_input(const Floats& dy, const Floats& x, const float* w, const float* rstd, const Floats& dx, int64_t rows,
                             int64_t cols, int threads) {
  row_pieces<kLightTile>(rows, cols, threads, {dy, x, dx}, [&](int64_t first, int64_t last) {
    const int64_t at = first * cols, n = (last - first) * cols;
    backward_input_rows(dy.read<0>(at, n), x.read<1>(at, n), w, rstd + first, dx.write<2>(at, n), last - first, cols);
  });
}

void rms_norm_backward_weight(const Floats& dy, const Floats& x, const float* rstd, float* dw, int64_t rows, int64_t cols, int threads) {
  column_sums(rows, cols, threads, dw, [&](int64_t begin, int64_t end, float* line) {
    rows_in_pieces(begin, end, cols, {dy, x}, [&](int64_t first, int64_t last) {
      const int64_t at = first * cols, n = (last - first) * cols;
      backward_weight_rows(dy.read<0>(at, n), x.read<1>(at, n), rstd + first, line, last - first, cols);
    });
  });
}

OCTAVO_KERNEL_BF16(rms_norm_forward, OwnBf16::operands(0, 2)) {
  const Arguments a(call, "rms_norm_forward", {"x", "w", "y", "rstd"}, {"eps"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.arithmetic(1, 0), a.count(1, cols, "(C)"), a.same_shape(2, 0), a.arithmetic(3, 0), a.count(3, rows, "(R)");
  a.run(
      [&]<class T>(T) {
        rms_norm_forward_reference(a.data<const T>(0), a.data<const T>(1), a.data<T>(2), a.data<T>(3), rows, cols, a.scalar(0));
      },
      [&] {
        rms_norm_forward(a.floats(0), a.data<const float>(1), a.output(2), a.data<float>(3), rows, cols, a.scalar(0), a.threads());
      });
}

OCTAVO_KERNEL_BF16(rms_norm_backward_input, OwnBf16::operands(0, 1, 4)) {
  const Arguments a(call, "rms_norm_backward_input", {"dy", "x", "w", "rstd", "dx"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.same_shape(1, 0), a.arithmetic(2, 0), a.count(2, cols, "(C)"), a.arithmetic(3, 0), a.count(3, rows, "(R)"), a.same_shape(4, 0);
  a.run(
      [&]<class T>(T) {
        rms_norm_backward_input_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<const T>(3),
                                          a.data<T>(4), rows, cols);
      },
      [&] {
        rms_norm_backward_input(a.floats(0), a.floats(1), a.data<const float>(2), a.data<const float>(3), a.output(4), rows,
                                cols, a.threads());
      });
}

OCTAVO_KERNEL_BF16(rms_norm_backward_weight, OwnBf16::operands(0, 1)) {
  const Arguments a(call, "rms_norm_backward_weight", {"dy", "x", "rstd", "dw"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.same_shape(1, 0), a.arithmetic(2, 0), a.count(2, rows, "(R)"), a.arithmetic(3, 0), a.count(3, cols, "(C)");
  a.run(
      [&]<class T>(T) {
        rms_norm_backward_weight_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), rows, cols);
      },
      [&] {
        rms_norm_backward_weight(a.floats(0), a.floats(1), a.data<const float>(2), a.data<float>(3), rows, cols, a.threads());
      });
}
