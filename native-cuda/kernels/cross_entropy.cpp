#include "cross_entropy.h"

#include <cmath>

#include "arguments.h"
#include "tiles.h"
#include "vector_math.h"

/// log sum exp of one row. f32 sums over at most 1024 numbers, those added in f64.
OCTAVO_CLONES static double row_lse(const float* x, int64_t n) {
  float peak = -INFINITY;
#pragma omp simd reduction(max : peak)
  for (int64_t c = 0; c < n; ++c) peak = x[c] > peak ? x[c] : peak;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += 1024) {
    const int64_t end = std::min(n, begin + 1024);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = begin; c < end; ++c) sum += exp_f32(x[c] - peak);
    total += sum;
  }
  return peak + std::log(total);
}

OCTAVO_CLONES static void row_softmax(const float* x, float lse, float scale, float* y, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) y[c] = scale * exp_f32(x[c] - lse);
}

double cross_entropy_forward(const float* logits, const int32_t* labels, float* lse, int64_t rows, int64_t cols, double weight, int threads) {
  std::vector<double> losses(static_cast<size_t>(rows), 0.0);
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      lse[r] = 0;
      if (labels[r] == kIgnoredLabel) continue;
      const double total = row_lse(logits + r * cols, cols);
      losses[r] = total - logits[r * cols + labels[r]];
      lse[r] = static_cast<float>(total);
    }
  });
  double total = 0;
  for (double loss : losses) total += loss;
  return weight * total;
}

void cross_entropy_backward(const float* dloss, const float* logits, const int32_t* labels, const float* lse, float* dlogits,
                            int64_t rows, int64_t cols, double weight, int threads) {
  const float scale = *dloss * static_cast<float>(weight);
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      float* out = dlogits + r * cols;
      if (labels[r] == kIgnoredLabel) {
        std::fill_n(out, cols, 0.0f);
      } else {
        // The label's own entry is scale * (p - 1); written apart, because scale * p - scale would cancel twice.
        const float p = exp_f32(logits[r * cols + labels[r]] - lse[r]);
        row_softmax(logits + r * cols, lse[r], scale, out, cols);
        out[labels[r]] = scale * (p - 1.0f);
      }
    }
  });
}

OCTAVO_KERNEL(cross_entropy_forward) {
  const Arguments a(call, "cross_entropy_forward", {"logits", "labels", "loss", "lse"}, {"weight"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.dtype(1, DType::i32), a.count(1, rows, "(N)"), a.same_dtype(2, 0), a.count(2, 1, "(1)");
  a.same_dtype(3, 0), a.count(3, rows, "(N)");
  const auto* labels = a.data<const int32_t>(1);
  check_ids(a.kernel(), "labels", labels, rows, cols, true);
  a.run(
      [&]<class T>(T) {
        *a.data<T>(2) = static_cast<T>(cross_entropy_forward_reference(a.data<const T>(0), labels, a.data<T>(3), rows, cols, a.scalar(0)));
      },
      [&] {
        *a.data<float>(2) = static_cast<float>(
            cross_entropy_forward(a.data<const float>(0), labels, a.data<float>(3), rows, cols, a.scalar(0), a.threads()));
      });
}

OCTAVO_KERNEL(cross_entropy_backward) {
  const Arguments a(call, "cross_entropy_backward", {"dloss", "logits", "labels", "lse", "dlogits"}, {"weight"});
  const int64_t rows = a.rows(1), cols = a.cols(1);
  a.floating(0), a.count(0, 1, "(1)"), a.same_dtype(1, 0), a.dtype(2, DType::i32), a.count(2, rows, "(N)");
  a.same_dtype(3, 0), a.count(3, rows, "(N)"), a.like(4, 1);
  const auto* labels = a.data<const int32_t>(2);
  check_ids(a.kernel(), "labels", labels, rows, cols, true);
  a.run(
      [&]<class T>(T) {
        cross_entropy_backward_reference(a.data<const T>(0), a.data<const T>(1), labels, a.data<const T>(3), a.data<T>(4), rows,
                                         cols, a.scalar(0));
      },
      [&] {
        cross_entropy_backward(a.data<const float>(0), a.data<const float>(1), labels, a.data<const float>(3), a.data<float>(4),
                               rows, cols, a.scalar(0), a.threads());
      });
}
