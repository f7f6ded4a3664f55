#include "sgd.h"

#include "many.h"

OCTAVO_CLONES static void move(float* p, const float* g, float* m, int64_t n, float keep, float lr, float momentum, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float mean = momentum * m[i] + scale * g[i];
    m[i] = mean;
    p[i] = keep * p[i] - lr * mean;
  }
}

void sgd_tile(float* p, const float* g, float* m, int64_t n, const SgdStep& o) {
  move(p, g, m, n, static_cast<float>(1 - o.learning_rate * o.weight_decay), static_cast<float>(o.learning_rate),
       static_cast<float>(o.momentum), static_cast<float>(o.grad_scale));
}

void sgd(float* p, const float* g, float* m, int64_t n, const SgdStep& o, int threads) {
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { sgd_tile(p + begin, g + begin, m + begin, end - begin, o); });
}

OCTAVO_KERNEL(sgd) {
  const Arguments a(call, "sgd", {"p", "g", "m"}, {"lr", "momentum", "weightDecay", "gradScale"});
  a.floating(0), a.like(1, 0), a.like(2, 0);
  const SgdStep o{a.scalar(0), a.scalar(1), a.scalar(2), a.scalar(3)};
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { sgd_reference(a.data<T>(0), a.data<const T>(1), a.data<T>(2), n, o); },
        [&] { sgd(a.data<float>(0), a.data<const float>(1), a.data<float>(2), n, o, a.threads()); });
}

OCTAVO_KERNEL(sgd_many) {
  const ManyArguments a(call, "sgd_many", {"p", "g", "m"}, {"momentum"}, {"weightDecay"}, {"numbers"});
  const UpdateNumbers now = a.numbers();
  const auto step = [&](int i) { return SgdStep{now.learning_rate, a.at().scalar(0), a.own(i), now.grad_scale}; };
  a.at().run(
      [&]<class T>(T) {
        for (int i = 0; i < a.count(); ++i) sgd_reference(a.data<T>(i, 0), a.data<const T>(i, 1), a.data<T>(i, 2), a.elements(i), step(i));
      },
      [&] {
        a.tiles([&](int i, int64_t begin, int64_t end) {
          sgd_tile(a.data<float>(i, 0) + begin, a.data<const float>(i, 1) + begin, a.data<float>(i, 2) + begin, end - begin, step(i));
        });
      });
}
