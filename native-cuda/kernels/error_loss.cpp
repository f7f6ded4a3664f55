#include "error_loss.h"

#include <cmath>

#include "arguments.h"
#include "tiles.h"
#include "vector_math.h"

namespace {
OCTAVO_INLINE double squared_error(double d) { return d * d; }
OCTAVO_INLINE float squared_error_slope(float d) { return 2.0f * d; }
OCTAVO_INLINE double absolute_error(double d) { return std::fabs(d); }
OCTAVO_INLINE float absolute_error_slope(float d) { return d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d; }  // d: 0, or NaN
}  // namespace

#define DEFINE(name)                                                                                                          \
  OCTAVO_CLONES static double name##_tile(const float* pred, const float* target, int64_t n) {                                \
    double total = 0;                                                                                                         \
    _Pragma("omp simd reduction(+ : total)") for (int64_t i = 0; i < n; ++i)                                                  \
        total += name(static_cast<double>(pred[i]) - static_cast<double>(target[i]));                                         \
    return total;                                                                                                             \
  }                                                                                                                           \
  OCTAVO_CLONES static void name##_slope_tile(const float* pred, const float* target, float* dpred, int64_t n, float scale) { \
    _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) dpred[i] = scale * name##_slope(pred[i] - target[i]);                 \
  }                                                                                                                           \
  double name##_forward(const float* pred, const float* target, int64_t n, double weight, int threads) {                      \
    return weight * sum_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) {                                       \
      return name##_tile(pred + begin, target + begin, end - begin);                                                          \
    });                                                                                                                       \
  }                                                                                                                           \
  void name##_backward(const float* dloss, const float* pred, const float* target, float* dpred, int64_t n, double weight, int threads) { \
    const float scale = *dloss * static_cast<float>(weight);                                                                  \
    element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) {                                                   \
      name##_slope_tile(pred + begin, target + begin, dpred + begin, end - begin, scale);                                     \
    });                                                                                                                       \
  }                                                                                                                           \
  OCTAVO_KERNEL(name##_forward) {                                                                                             \
    const Arguments a(call, #name "_forward", {"pred", "target", "loss"}, {"weight"});                                        \
    a.floating(0), a.like(1, 0), a.same_dtype(2, 0), a.count(2, 1, "(1)");                                                    \
    const int64_t n = a[0].numel;                                                                                             \
    a.run([&]<class T>(T) { *a.data<T>(2) = static_cast<T>(name##_forward_reference(a.data<const T>(0), a.data<const T>(1), n, a.scalar(0))); }, \
          [&] { *a.data<float>(2) = static_cast<float>(name##_forward(a.data<const float>(0), a.data<const float>(1), n, a.scalar(0), a.threads())); }); \
  }                                                                                                                           \
  OCTAVO_KERNEL(name##_backward) {                                                                                            \
    const Arguments a(call, #name "_backward", {"dloss", "pred", "target", "dpred"}, {"weight"});                             \
    a.floating(0), a.count(0, 1, "(1)"), a.same_dtype(1, 0), a.like(2, 1), a.like(3, 1);                                      \
    const int64_t n = a[1].numel;                                                                                             \
    a.run([&]<class T>(T) { name##_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), n, a.scalar(0)); }, \
          [&] { name##_backward(a.data<const float>(0), a.data<const float>(1), a.data<const float>(2), a.data<float>(3), n, a.scalar(0), a.threads()); }); \
  }
OCTAVO_ERROR_LOSSES(DEFINE)
