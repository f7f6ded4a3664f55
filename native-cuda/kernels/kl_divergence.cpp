#include "kl_divergence.h"

#include "arguments.h"
#include "row_reduce.h"
#include "tiles.h"
#include "vector_math.h"

// Shares in f32, log-ratios in f64: near agreement the terms cancel.
OCTAVO_CLONES static double divergence(const float* logits, const float* teacher, double of_logits, double of_teacher, int64_t n) {
  const auto peak = static_cast<float>(of_teacher);
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t c = 0; c < n; ++c) {
    const double p = exp_f32(teacher[c] - peak), ratio = (teacher[c] - of_teacher) - (logits[c] - of_logits);
    total += p > 0 ? p * ratio : 0.0;
  }
  return total;
}

OCTAVO_CLONES static void slopes(const float* logits, const float* teacher, float of_logits, float of_teacher, float scale, float* out, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) out[c] = scale * (exp_f32(logits[c] - of_logits) - exp_f32(teacher[c] - of_teacher));
}

double kl_divergence_forward(const float* logits, const float* teacher, int64_t rows, int64_t cols, double weight, int threads) {
  std::vector<double> losses(static_cast<size_t>(rows));
  row_tiles(rows, 2 * cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float *z = logits + r * cols, *t = teacher + r * cols;
      losses[r] = divergence(z, t, row_logsumexp(z, cols), row_logsumexp(t, cols), cols);
    }
  });
  double total = 0;
  for (double loss : losses) total += loss;
  return weight * total;
}

void kl_divergence_backward(const float* dloss, const float* logits, const float* teacher, float* dlogits, int64_t rows,
                            int64_t cols, double weight, int threads) {
  const float scale = *dloss * static_cast<float>(weight);
  row_tiles(rows, 2 * cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float *z = logits + r * cols, *t = teacher + r * cols;
      const auto of_logits = static_cast<float>(row_logsumexp(z, cols)), of_teacher = static_cast<float>(row_logsumexp(t, cols));
      slopes(z, t, of_logits, of_teacher, scale, dlogits + r * cols, cols);
    }
  });
}

OCTAVO_KERNEL(kl_divergence_forward) {
  const Arguments a(call, "kl_divergence_forward", {"logits", "teacher", "loss"}, {"weight"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.like(1, 0), a.same_dtype(2, 0), a.count(2, 1, "(1)");
  a.run(
      [&]<class T>(T) { *a.data<T>(2) = static_cast<T>(kl_divergence_forward_reference(a.data<const T>(0), a.data<const T>(1), rows, cols, a.scalar(0))); },
      [&] { *a.data<float>(2) = static_cast<float>(kl_divergence_forward(a.data<const float>(0), a.data<const float>(1), rows, cols, a.scalar(0), a.threads())); });
}

OCTAVO_KERNEL(kl_divergence_backward) {
  const Arguments a(call, "kl_divergence_backward", {"dloss", "logits", "teacher", "dlogits"}, {"weight"});
  const int64_t rows = a.rows(1), cols = a.cols(1);
  a.floating(0), a.count(0, 1, "(1)"), a.same_dtype(1, 0), a.like(2, 1), a.like(3, 1);
  a.run(
      [&]<class T>(T) {
        kl_divergence_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), rows, cols, a.scalar(0));
      },
      [&] {
        kl_divergence_backward(a.data<const float>(0), a.data<const float>(1), a.data<const float>(2), a.data<float>(3), rows, cols,
                               a.scalar(0), a.threads());
      });
}
