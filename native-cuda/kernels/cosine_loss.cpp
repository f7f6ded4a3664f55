#include "cosine_loss.h"

#include <cmath>

#include "arguments.h"
#include "l2_normalize.h"
#include "tiles.h"

namespace {
struct Angle {
  double pred_length, target_length, cosine;
};
}  // namespace

/// In f64: 1 - cos cancels as the rows align, which is where training spends its time.
OCTAVO_CLONES static Angle angle(const float* pred, const float* target, int64_t cols) {
  double pp = 0, tt = 0, pt = 0;
#pragma omp simd reduction(+ : pp, tt, pt)
  for (int64_t c = 0; c < cols; ++c) {
    const double p = pred[c], t = target[c];
    pp += p * p, tt += t * t, pt += p * t;
  }
  const double p = std::max(std::sqrt(pp), kSmallestNorm), t = std::max(std::sqrt(tt), kSmallestNorm);
  return {p, t, pt / p / t};
}

OCTAVO_CLONES static void slope_row(const float* pred, const float* target, float* dpred, int64_t cols, double by_target, double by_pred) {
#pragma omp simd
  for (int64_t c = 0; c < cols; ++c) dpred[c] = static_cast<float>(by_target * target[c] + by_pred * pred[c]);
}

double cosine_loss_forward(const float* pred, const float* target, int64_t rows, int64_t cols, double weight, int threads) {
  std::vector<double> losses(static_cast<size_t>(rows));
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) losses[r] = 1 - angle(pred + r * cols, target + r * cols, cols).cosine;
  });
  double total = 0;
  for (double loss : losses) total += loss;
  return weight * total;
}

void cosine_loss_backward(const float* dloss, const float* pred, const float* target, float* dpred, int64_t rows,
                          int64_t cols, double weight, int threads) {
  const double scale = *dloss * weight;
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const Angle a = angle(pred + r * cols, target + r * cols, cols);
      slope_row(pred + r * cols, target + r * cols, dpred + r * cols, cols, -scale / a.target_length / a.pred_length,
                scale * a.cosine / a.pred_length / a.pred_length);
    }
  });
}

OCTAVO_KERNEL(cosine_loss_forward) {
  const Arguments a(call, "cosine_loss_forward", {"pred", "target", "loss"}, {"weight"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.like(1, 0), a.same_dtype(2, 0), a.count(2, 1, "(1)");
  a.run(
      [&]<class T>(T) {
        *a.data<T>(2) = static_cast<T>(cosine_loss_forward_reference(a.data<const T>(0), a.data<const T>(1), rows, cols, a.scalar(0)));
      },
      [&] {
        *a.data<float>(2) = static_cast<float>(
            cosine_loss_forward(a.data<const float>(0), a.data<const float>(1), rows, cols, a.scalar(0), a.threads()));
      });
}

OCTAVO_KERNEL(cosine_loss_backward) {
  const Arguments a(call, "cosine_loss_backward", {"dloss", "pred", "target", "dpred"}, {"weight"});
  const int64_t rows = a.rows(1), cols = a.cols(1);
  a.floating(0), a.count(0, 1, "(1)"), a.same_dtype(1, 0), a.like(2, 1), a.like(3, 1);
  a.run(
      [&]<class T>(T) {
        cosine_loss_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), rows, cols, a.scalar(0));
      },
      [&] {
        cosine_loss_backward(a.data<const float>(0), a.data<const float>(1), a.data<const float>(2), a.data<float>(3), rows,
                             cols, a.scalar(0), a.threads());
      });
}
