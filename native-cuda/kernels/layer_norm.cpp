#include "layer_norm.h"

#include <cmath>

#include "arguments.h"
#include "lanes.h"
#include "tiles.h"

OCTAVO_CLONES static void forward_rows(const float* x, const float* w, const float* b, float* y, float* mean, float* rstd,
                                       int64_t rows, int64_t cols, float eps) {
  const float inverse = 1.0f / static_cast<float>(std::max<int64_t>(1, cols));
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * cols;
    float* out = y + r * cols;
    const float m = row_sum(in, cols) * inverse;
    const float scale = 1.0f / std::sqrt(row_squares(in, m, cols) * inverse + eps);
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = w[c] * ((in[c] - m) * scale) + b[c];
    mean[r] = m, rstd[r] = scale;
  }
}

OCTAVO_CLONES static void backward_input_rows(const float* dy, const float* x, const float* w, const float* mean,
                                              const float* rstd, float* dx, int64_t rows, int64_t cols) {
  const float inverse = 1.0f / static_cast<float>(std::max<int64_t>(1, cols));
  for (int64_t r = 0; r < rows; ++r) {
    const float *d = dy + r * cols, *in = x + r * cols;
    float* out = dx + r * cols;
    const float m = mean[r], scale = rstd[r];
    float sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
    for (int64_t c = 0; c < cols; ++c) {
      const float g = w[c] * d[c];
      sum_g += g, sum_gx += g * ((in[c] - m) * scale);
    }
    const float mean_g = sum_g * inverse, mean_gx = sum_gx * inverse;
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) out[c] = scale * (w[c] * d[c] - mean_g - (in[c] - m) * scale * mean_gx);
  }
}

OCTAVO_CLONES static void backward_affine_rows(const float* dy, const float* x, const float* mean, const float* rstd,
                                               float* dw, float* db, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const float *d = dy + r * cols, *in = x + r * cols;
    const float m = mean[r], scale = rstd[r];
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) dw[c] += d[c] * ((in[c] - m) * scale), db[c] += d[c];
  }
}

void layer_norm_forward(const Floats& x, const float* w, const float* b, const Floats& y, float* mean, float* rstd, int64_t rows,
                        int64_t cols, double eps, int threads) {
  row_pieces<kLightTile>(rows, cols, threads, {x, y}, [&](int64_t first, int64_t last) {
    const int64_t at = first * cols, n = (last - first) * cols;
    forward_rows(x.read<0>(at, n), w, b, y.write<1>(at, n), mean + first, rstd + first, last - first, cols, static_cast<float>(eps));
  });
}

void layer_norm_backward_input(const Floats& dy, const Floats& x, const float* w, const float* mean, const float* rstd,
                               const Floats& dx, int64_t rows, int64_t cols, int threads) {
  row_pieces<kLightTile>(rows, cols, threads, {dy, x, dx}, [&](int64_t first, int64_t last) {
    const int64_t at = first * cols, n = (last - first) * cols;
    backward_input_rows(dy.read<0>(at, n), x.read<1>(at, n), w, mean + first, rstd + first, dx.write<2>(at, n), last - first, cols);
  });
}

void layer_norm_backward_affine(const Floats& dy, const Floats& x, const float* mean, const float* rstd, float* dw, float* db,
                                int64_t rows, int64_t cols, int threads) {
  // One line holds both sums, so that dy is read once.
  std::vector<float> sums(static_cast<size_t>(2 * cols));
  column_sums(rows, 2 * cols, threads, sums.data(), [&](int64_t begin, int64_t end, float* line) {
    rows_in_pieces(begin, end, cols, {dy, x}, [&](int64_t first, int64_t last) {
      const int64_t at = first * cols, n = (last - first) * cols;
      backward_affine_rows(dy.read<0>(at, n), x.read<1>(at, n), mean + first, rstd + first, line, line + cols, last - first, cols);
    });
  });
  std::copy_n(sums.data(), cols, dw);
  std::copy_n(sums.data() + cols, cols, db);
}

OCTAVO_KERNEL_BF16(layer_norm_forward, OwnBf16::operands(0, 3)) {
  const Arguments a(call, "layer_norm_forward", {"x", "w", "b", "y", "mean", "rstd"}, {"eps"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.same_shape(3, 0);
  for (int i : {1, 2}) a.arithmetic(i, 0), a.count(i, cols, "(C)");
  for (int i : {4, 5}) a.arithmetic(i, 0), a.count(i, rows, "(R)");
  a.run(
      [&]<class T>(T) {
        layer_norm_forward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), a.data<T>(4),
                                     a.data<T>(5), rows, cols, a.scalar(0));
      },
      [&] {
        layer_norm_forward(a.floats(0), a.data<const float>(1), a.data<const float>(2), a.output(3), a.data<float>(4),
                           a.data<float>(5), rows, cols, a.scalar(0), a.threads());
      });
}

OCTAVO_KERNEL_BF16(layer_norm_backward_input, OwnBf16::operands(0, 1, 5)) {
  const Arguments a(call, "layer_norm_backward_input", {"dy", "x", "w", "mean", "rstd", "dx"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.same_shape(1, 0), a.same_shape(5, 0), a.arithmetic(2, 0), a.count(2, cols, "(C)");
  for (int i : {3, 4}) a.arithmetic(i, 0), a.count(i, rows, "(R)");
  a.run(
      [&]<class T>(T) {
        layer_norm_backward_input_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<const T>(3),
                                            a.data<const T>(4), a.data<T>(5), rows, cols);
      },
      [&] {
        layer_norm_backward_input(a.floats(0), a.floats(1), a.data<const float>(2), a.data<const float>(3),
                                  a.data<const float>(4), a.output(5), rows, cols, a.threads());
      });
}

OCTAVO_KERNEL_BF16(layer_norm_backward_affine, OwnBf16::operands(0, 1)) {
  const Arguments a(call, "layer_norm_backward_affine", {"dy", "x", "mean", "rstd", "dw", "db"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.same_shape(1, 0);
  for (int i : {2, 3}) a.arithmetic(i, 0), a.count(i, rows, "(R)");
  for (int i : {4, 5}) a.arithmetic(i, 0), a.count(i, cols, "(C)");
  a.run(
      [&]<class T>(T) {
        layer_norm_backward_affine_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<const T>(3),
                                             a.data<T>(4), a.data<T>(5), rows, cols);
      },
      [&] {
        layer_norm_backward_affine(a.floats(0), a.floats(1), a.data<const float>(2), a.data<const float>(3), a.data<float>(4),
                                   a.data<float>(5), rows, cols, a.threads());
      });
}
