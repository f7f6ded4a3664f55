#include "adamw.h"

#include <cmath>

#include "many.h"

namespace {
/// The step's constants in f32, each rounded once from f64.
struct Constants {
  float keep, beta1, rest1, beta2, rest2, step_size, inverse_correction2, eps, grad_scale;
};

Constants constants_of(const AdamWStep& o) {
  return {static_cast<float>(1 - o.learning_rate * o.weight_decay),
          static_cast<float>(o.beta1),
          static_cast<float>(1 - o.beta1),
          static_cast<float>(o.beta2),
          static_cast<float>(1 - o.beta2),
          static_cast<float>(o.learning_rate / (1 - std::pow(o.beta1, o.step))),
          static_cast<float>(1 / (1 - std::pow(o.beta2, o.step))),
          static_cast<float>(o.eps),
          static_cast<float>(o.grad_scale)};
}
}  // namespace

OCTAVO_CLONES static void adamw_tile(float* p, const float* g, float* m, float* v, int64_t n, const Constants& k) {
  const auto [keep, beta1, rest1, beta2, rest2, step_size, inverse_correction2, eps, grad_scale] = k;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float gradient = grad_scale * g[i];
    const float mean = beta1 * m[i] + rest1 * gradient;
    const float square = beta2 * v[i] + rest2 * gradient * gradient;
    m[i] = mean, v[i] = square;
    p[i] = keep * p[i] - step_size * mean / (std::sqrt(square * inverse_correction2) + eps);
  }
}

void adamw(float* p, const float* g, float* m, float* v, int64_t n, const AdamWStep& o, int threads) {
  const Constants k = constants_of(o);
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { adamw_tile(p + begin, g + begin, m + begin, v + begin, end - begin, k); });
}

OCTAVO_KERNEL(adamw) {
  const Arguments a(call, "adamw", {"p", "g", "m", "v"}, {"lr", "beta1", "beta2", "eps", "weightDecay", "step", "gradScale"});
  a.floating(0), a.like(1, 0), a.like(2, 0), a.like(3, 0);
  const AdamWStep o{a.scalar(0), a.scalar(1), a.scalar(2), a.scalar(3), a.scalar(4),
                    static_cast<double>(a.whole(5, 1, int64_t{1} << 53)), a.scalar(6)};
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { adamw_reference(a.data<T>(0), a.data<const T>(1), a.data<T>(2), a.data<T>(3), n, o); },
        [&] { adamw(a.data<float>(0), a.data<const float>(1), a.data<float>(2), a.data<float>(3), n, o, a.threads()); });
}

OCTAVO_KERNEL(adamw_many) {
  const ManyArguments a(call, "adamw_many", {"p", "g", "m", "v"}, {"beta1", "beta2", "eps"}, {"weightDecay"}, {"numbers"});
  const UpdateNumbers now = a.numbers();
  std::vector<AdamWStep> steps;
  for (int i = 0; i < a.count(); ++i)
    steps.push_back({now.learning_rate, a.at().scalar(0), a.at().scalar(1), a.at().scalar(2), a.own(i), now.step, now.grad_scale});
  a.at().run(
      [&]<class T>(T) {
        for (int i = 0; i < a.count(); ++i)
          adamw_reference(a.data<T>(i, 0), a.data<const T>(i, 1), a.data<T>(i, 2), a.data<T>(i, 3), a.elements(i), steps[static_cast<size_t>(i)]);
      },
      [&] {
        std::vector<Constants> constants;
        for (const AdamWStep& step : steps) constants.push_back(constants_of(step));
        a.tiles([&](int i, int64_t begin, int64_t end) {
          adamw_tile(a.data<float>(i, 0) + begin, a.data<const float>(i, 1) + begin, a.data<float>(i, 2) + begin, a.data<float>(i, 3) + begin,
                     end - begin, constants[static_cast<size_t>(i)]);
        });
      });
}
