#include "bce.h"

#include <cmath>

#include "arguments.h"
#include "tiles.h"
#include "vector_math.h"

static double loss_tile(const float* logits, const int32_t* labels, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (labels[i] == kIgnoredLabel) continue;
    const double z = logits[i];
    total += std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z))) - z * labels[i];
  }
  return total;
}

OCTAVO_CLONES static void slope_tile(const float* logits, const int32_t* labels, float* dlogits, int64_t n, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float side = labels[i] == 1 ? -1.0f : 1.0f;  // sigmoid(z) - 1 = -sigmoid(-z)
    const float slope = scale * side * sigmoid_f32(side * logits[i]);
    dlogits[i] = labels[i] == kIgnoredLabel ? 0.0f : slope;
  }
}

double bce_forward(const float* logits, const int32_t* labels, int64_t n, double weight, int threads) {
  return weight * sum_tiles(n, threads, [&](int64_t begin, int64_t end) { return loss_tile(logits + begin, labels + begin, end - begin); });
}

void bce_backward(const float* dloss, const float* logits, const int32_t* labels, float* dlogits, int64_t n, double weight, int threads) {
  const float scale = *dloss * static_cast<float>(weight);
  element_tiles(n, threads, [&](int64_t begin, int64_t end) {
    slope_tile(logits + begin, labels + begin, dlogits + begin, end - begin, scale);
  });
}

OCTAVO_KERNEL(bce_forward) {
  const Arguments a(call, "bce_forward", {"logits", "labels", "loss"}, {"weight"});
  const int64_t n = a[0].numel;
  a.floating(0), a.dtype(1, DType::i32), a.count(1, n, "(N)"), a.same_dtype(2, 0), a.count(2, 1, "(1)");
  const auto* labels = a.data<const int32_t>(1);
  check_ids(a.kernel(), "labels", labels, n, 2, true);
  a.run([&]<class T>(T) { *a.data<T>(2) = static_cast<T>(bce_forward_reference(a.data<const T>(0), labels, n, a.scalar(0))); },
        [&] { *a.data<float>(2) = static_cast<float>(bce_forward(a.data<const float>(0), labels, n, a.scalar(0), a.threads())); });
}

OCTAVO_KERNEL(bce_backward) {
  const Arguments a(call, "bce_backward", {"dloss", "logits", "labels", "dlogits"}, {"weight"});
  const int64_t n = a[1].numel;
  a.floating(0), a.count(0, 1, "(1)"), a.same_dtype(1, 0), a.dtype(2, DType::i32), a.count(2, n, "(N)"), a.like(3, 1);
  const auto* labels = a.data<const int32_t>(2);
  check_ids(a.kernel(), "labels", labels, n, 2, true);
  a.run(
      [&]<class T>(T) { bce_backward_reference(a.data<const T>(0), a.data<const T>(1), labels, a.data<T>(3), n, a.scalar(0)); },
      [&] {
        bce_backward(a.data<const float>(0), a.data<const float>(1), labels, a.data<float>(3), n, a.scalar(0), a.threads());
      });
}
