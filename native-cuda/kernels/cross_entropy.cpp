#include "cross_entropy.h"

#include <cmath>
#include <stdexcept>

#include "arguments.h"
#include "row_reduce.h"
#include "tiles.h"
#include "vector_math.h"

OCTAVO_CLONES static void row_softmax(const float* x, float lse, float scale, float* y, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) y[c] = scale * exp_falling_f32(x[c] - lse);
}

OCTAVO_CLONES static void lower(float* y, float by, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) y[c] -= by;
}

OCTAVO_CLONES static double row_total(const float* x, int64_t n) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t c = 0; c < n; ++c) total += x[c];
  return total;
}

/// The mean logit under q.
static double expected_logit(const float* logits, int64_t cols, const LabelShares& shares, double smoothing) {
  double mean = 0;
  for (size_t j = 0; j < shares.weight.size(); ++j) mean += shares.weight[j] * logits[shares.begin + static_cast<int64_t>(j)];
  return smoothing == 0 ? mean : (1 - smoothing) * mean + smoothing * row_total(logits, cols) / static_cast<double>(cols);
}

double cross_entropy_forward(const Floats& logits, const int32_t* labels, float* lse, int64_t rows, int64_t cols, double weight,
                             const LabelSpread& spread, int threads) {
  std::vector<double> losses(static_cast<size_t>(rows), 0.0);
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) {
    LabelShares shares;
    for (int64_t r = first; r < last; ++r) {
      lse[r] = 0;
      if (labels[r] == kIgnoredLabel) continue;
      const float* row = logits.read<0>(r * cols, cols);
      const double total = row_logsumexp(row, cols);
      shares.of(labels[r], spread);
      losses[r] = total - expected_logit(row, cols, shares, spread.smoothing);
      lse[r] = static_cast<float>(total);
    }
  });
  double total = 0;
  for (double loss : losses) total += loss;
  return weight * total;
}

/// The gradient of one row. Entries of the label's shares are scale * (p - q), written apart, because scale * p - scale * q
/// would cancel twice.
static void slope_row(const float* logits, int32_t label, float lse, float scale, float* out, int64_t cols,
                      const LabelSpread& spread, LabelShares& shares, std::vector<float>& near) {
  shares.of(label, spread);
  const auto everywhere = static_cast<float>(spread.smoothing / static_cast<double>(cols));
  near.resize(shares.weight.size());
  for (size_t j = 0; j < near.size(); ++j) {
    const float p = exp_falling_f32(logits[shares.begin + static_cast<int64_t>(j)] - lse);
    near[j] = scale * (p - static_cast<float>((1 - spread.smoothing) * shares.weight[j]) - everywhere);
  }
  row_softmax(logits, lse, scale, out, cols);
  if (spread.smoothing != 0) lower(out, scale * everywhere, cols);
  std::copy(near.begin(), near.end(), out + shares.begin);
}

void cross_entropy_backward(const float* dloss, const Floats& logits, const int32_t* labels, const float* lse, const Floats& dlogits,
                            int64_t rows, int64_t cols, double weight, const LabelSpread& spread, int threads) {
  const float scale = *dloss * static_cast<float>(weight);
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) {
    LabelShares shares;
    std::vector<float> near;
    for (int64_t r = first; r < last; ++r) {
      const int64_t at = r * cols;
      if (labels[r] == kIgnoredLabel) dlogits.fill(at, cols, 0.0f);
      else slope_row(logits.read<0>(at, cols), labels[r], lse[r], scale, dlogits.write<1>(at, cols), cols, spread, shares, near);
    }
  });
}

/// Scalars 1 to 4, checked, and the labels against the classes they may name.
static LabelSpread spread_of(const Arguments& a, const int32_t* labels, int64_t rows, int64_t cols) {
  const double smoothing = a.scalar(1), sigma = a.scalar(2);
  if (!(smoothing >= 0 && smoothing <= 1)) throw std::invalid_argument(format("%s: smoothing expected within [0, 1], got %g", a.kernel(), smoothing));
  if (!(sigma >= 0 && std::isfinite(sigma))) throw std::invalid_argument(format("%s: sigma expected 0 or a positive number, got %g", a.kernel(), sigma));
  check_ids(a.kernel(), "labels", labels, rows, cols, true);
  if (sigma == 0) return {smoothing, 0, 0, cols};
  const int64_t first = a.whole(3, 0, cols), bins = a.whole(4, 0, cols - first);
  for (int64_t r = 0; r < rows; ++r)
    if (labels[r] != kIgnoredLabel && (labels[r] < first || labels[r] >= first + bins))
      throw std::out_of_range(format("%s: labels[%lld] expected a bin in [%lld, %lld) or -100, got %d", a.kernel(), static_cast<long long>(r),
                                     static_cast<long long>(first), static_cast<long long>(first + bins), labels[r]));
  return {smoothing, sigma, first, bins};
}

OCTAVO_KERNEL_BF16(cross_entropy_forward, OwnBf16::operands(0)) {
  const Arguments a(call, "cross_entropy_forward", {"logits", "labels", "loss", "lse"}, {"weight", "smoothing", "sigma", "first", "bins"});
  const int64_t rows = a.rows(0), cols = a.cols(0);
  a.floating(0), a.dtype(1, DType::i32), a.count(1, rows, "(N)"), a.arithmetic(2, 0), a.count(2, 1, "(1)");
  a.arithmetic(3, 0), a.count(3, rows, "(N)");
  const auto* labels = a.data<const int32_t>(1);
  const LabelSpread spread = spread_of(a, labels, rows, cols);
  a.run(
      [&]<class T>(T) {
        *a.data<T>(2) = static_cast<T>(cross_entropy_forward_reference(a.data<const T>(0), labels, a.data<T>(3), rows, cols, a.scalar(0), spread));
      },
      [&] {
        *a.data<float>(2) = static_cast<float>(
            cross_entropy_forward(a.floats(0), labels, a.data<float>(3), rows, cols, a.scalar(0), spread, a.threads()));
      });
}

OCTAVO_KERNEL_BF16(cross_entropy_backward, OwnBf16::operands(1, 4)) {
  const Arguments a(call, "cross_entropy_backward", {"dloss", "logits", "labels", "lse", "dlogits"}, {"weight", "smoothing", "sigma", "first", "bins"});
  const int64_t rows = a.rows(1), cols = a.cols(1);
  a.floating(1), a.arithmetic(0, 1), a.count(0, 1, "(1)"), a.dtype(2, DType::i32), a.count(2, rows, "(N)");
  a.arithmetic(3, 1), a.count(3, rows, "(N)"), a.same_shape(4, 1);
  const auto* labels = a.data<const int32_t>(2);
  const LabelSpread spread = spread_of(a, labels, rows, cols);
  a.run(
      [&]<class T>(T) {
        cross_entropy_backward_reference(a.data<const T>(0), a.data<const T>(1), labels, a.data<const T>(3), a.data<T>(4), rows,
                                         cols, a.scalar(0), spread);
      },
      [&] {
        cross_entropy_backward(a.data<const float>(0), a.floats(1), labels, a.data<const float>(3), a.output(4), rows, cols,
                               a.scalar(0), spread, a.threads());
      });
}
