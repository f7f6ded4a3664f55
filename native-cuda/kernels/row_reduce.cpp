#include "row_reduce.h"

#include <cmath>

#include "arguments.h"
#include "lanes.h"
#include "tiles.h"

namespace {
OCTAVO_CLONES double exp_sum(const float* x, int64_t n, float peak) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += 1024) {
    const int64_t end = std::min(n, begin + 1024);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = begin; c < end; ++c) sum += exp_falling_f32(x[c] - peak);
    total += sum;
  }
  return total;
}

OCTAVO_CLONES float peak_of(const float* x, int64_t n) { return row_peak(x, n); }

OCTAVO_CLONES double square_sum(const float* x, int64_t n) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t c = 0; c < n; ++c) total += static_cast<double>(x[c]) * static_cast<double>(x[c]);
  return total;
}

OCTAVO_CLONES double plain_sum(const float* x, int64_t n) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t c = 0; c < n; ++c) total += x[c];
  return total;
}

OCTAVO_CLONES void shares(const float* x, float lse, float factor, float* dx, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) dx[c] = factor * exp_falling_f32(x[c] - lse);
}

OCTAVO_CLONES void scaled(const float* x, float factor, float* y, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) y[c] = factor * x[c];
}

OCTAVO_CLONES void lowered(const float* x, double by, float* y, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) y[c] = static_cast<float>(x[c] - by);
}

OCTAVO_CLONES void log_softmax_slopes(const float* dy, const float* y, float sum, float* dx, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) dx[c] = dy[c] - exp_falling_f32(y[c]) * sum;
}

/// row(r) for every row, shared out in tiles.
template <class F> void each_row(int64_t rows, int64_t cols, int threads, F row) {
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) { for (int64_t r = first; r < last; ++r) row(r); });
}
}  // namespace

double row_logsumexp(const float* x, int64_t n) {
  const float peak = peak_of(x, n);
  return std::isinf(peak) ? peak : peak + std::log(exp_sum(x, n, peak));
}

void logsumexp_forward(const Floats& x, float* y, int64_t rows, int64_t cols, int threads) {
  each_row(rows, cols, threads, [&](int64_t r) { y[r] = static_cast<float>(row_logsumexp(x.read<0>(r * cols, cols), cols)); });
}

void logsumexp_backward(const float* dy, const Floats& x, const float* y, const Floats& dx, int64_t rows, int64_t cols, int threads) {
  each_row(rows, cols, threads, [&](int64_t r) {
    if (y[r] == -INFINITY) dx.fill(r * cols, cols, 0.0f);
    else shares(x.read<0>(r * cols, cols), y[r], dy[r], dx.write<1>(r * cols, cols), cols);
  });
}

void row_norm_forward(const Floats& x, float* y, int64_t rows, int64_t cols, int threads) {
  each_row(rows, cols, threads, [&](int64_t r) { y[r] = static_cast<float>(std::sqrt(square_sum(x.read<0>(r * cols, cols), cols))); });
}

void row_norm_backward(const float* dy, const Floats& x, const float* y, const Floats& dx, int64_t rows, int64_t cols, int threads) {
  each_row(rows, cols, threads, [&](int64_t r) {
    scaled(x.read<0>(r * cols, cols), y[r] == 0 ? 0.0f : dy[r] / y[r], dx.write<1>(r * cols, cols), cols);
  });
}

void log_softmax_forward(const Floats& x, const Floats& y, int64_t rows, int64_t cols, int threads) {
  each_row(rows, cols, threads, [&](int64_t r) {
    const float* in = x.read<0>(r * cols, cols);
    lowered(in, row_logsumexp(in, cols), y.write<1>(r * cols, cols), cols);
  });
}

void log_softmax_backward(const Floats& dy, const Floats& y, const Floats& dx, int64_t rows, int64_t cols, int threads) {
  each_row(rows, cols, threads, [&](int64_t r) {
    const int64_t at = r * cols;
    const float* d = dy.read<0>(at, cols);
    log_softmax_slopes(d, y.read<1>(at, cols), static_cast<float>(plain_sum(d, cols)), dx.write<2>(at, cols), cols);
  });
}

#define DEFINE_PER_ROW(name)                                                                                              \
  OCTAVO_KERNEL_BF16(name##_forward, OwnBf16::operands(0)) {                                                              \
    const Arguments a(call, #name "_forward", {"x", "y"});                                                                \
    const int64_t rows = a.rows(0), cols = a.cols(0);                                                                     \
    a.floating(0), a.arithmetic(1, 0), a.count(1, rows, "(R)");                                                           \
    a.run([&]<class T>(T) { name##_forward_reference(a.data<const T>(0), a.data<T>(1), rows, cols); },                    \
          [&] { name##_forward(a.floats(0), a.data<float>(1), rows, cols, a.threads()); });                               \
  }                                                                                                                       \
  OCTAVO_KERNEL_BF16(name##_backward, OwnBf16::operands(1, 3)) {                                                          \
    const Arguments a(call, #name "_backward", {"dy", "x", "y", "dx"});                                                   \
    const int64_t rows = a.rows(1), cols = a.cols(1);                                                                     \
    a.floating(1), a.arithmetic(0, 1), a.count(0, rows, "(R)"), a.arithmetic(2, 1), a.count(2, rows, "(R)"), a.same_shape(3, 1); \
    a.run([&]<class T>(T) { name##_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), rows, cols); }, \
          [&] { name##_backward(a.data<const float>(0), a.floats(1), a.data<const float>(2), a.output(3), rows, cols, a.threads()); }); \
  }
DEFINE_PER_ROW(logsumexp)
DEFINE_PER_ROW(row_norm)

OCTAVO_KERNEL_BF16(log_softmax_forward, OwnBf16::any()) {
  const Arguments a(call, "log_softmax_forward", {"x", "y"});
  a.floating(0), a.same_shape(1, 0);
  a.run([&]<class T>(T) { log_softmax_forward_reference(a.data<const T>(0), a.data<T>(1), a.rows(0), a.cols(0)); },
        [&] { log_softmax_forward(a.floats(0), a.output(1), a.rows(0), a.cols(0), a.threads()); });
}

OCTAVO_KERNEL_BF16(log_softmax_backward, OwnBf16::any()) {
  const Arguments a(call, "log_softmax_backward", {"dy", "y", "dx"});
  a.floating(0), a.same_shape(1, 0), a.same_shape(2, 0);
  a.run([&]<class T>(T) { log_softmax_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<T>(2), a.rows(0), a.cols(0)); },
        [&] { log_softmax_backward(a.floats(0), a.floats(1), a.output(2), a.rows(0), a.cols(0), a.threads()); });
}
