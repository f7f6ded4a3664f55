#include "ema.h"

#include <stdexcept>

#include "many.h"

OCTAVO_CLONES static void mix(float* e, const float* p, int64_t n, float keep, float rest) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) e[i] = keep * e[i] + rest * p[i];
}

static void mix_tile(float* e, const float* p, int64_t n, double decay) {
  mix(e, p, n, static_cast<float>(decay), static_cast<float>(1 - decay));
}

void ema(float* e, const float* p, int64_t n, double decay, int threads) {
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { mix_tile(e + begin, p + begin, end - begin, decay); });
}

static double decay_of(const Arguments& a) {
  if (!(a.scalar(0) >= 0 && a.scalar(0) <= 1)) throw std::invalid_argument(format("%s: decay expected within [0, 1], got %g", a.kernel(), a.scalar(0)));
  return a.scalar(0);
}

OCTAVO_KERNEL(ema) {
  const Arguments a(call, "ema", {"e", "p"}, {"decay"});
  a.floating(0), a.like(1, 0);
  const double decay = decay_of(a);
  a.run([&]<class T>(T) { ema_reference(a.data<T>(0), a.data<const T>(1), a[0].numel, decay); },
        [&] { ema(a.data<float>(0), a.data<const float>(1), a[0].numel, decay, a.threads()); });
}

OCTAVO_KERNEL(ema_many) {
  const ManyArguments a(call, "ema_many", {"e", "p"}, {"decay"}, {});
  const double decay = decay_of(a.at());
  a.at().run(
      [&]<class T>(T) { for (int i = 0; i < a.count(); ++i) ema_reference(a.data<T>(i, 0), a.data<const T>(i, 1), a.elements(i), decay); },
      [&] {
        a.tiles([&](int i, int64_t begin, int64_t end) { mix_tile(a.data<float>(i, 0) + begin, a.data<const float>(i, 1) + begin, end - begin, decay); });
      });
}
