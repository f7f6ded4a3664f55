#include "scale.h"

#include "arguments.h"
#include "many.h"
#include "tiles.h"

OCTAVO_CLONES static void scale_tile(const float* x, float* y, int64_t n, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}

OCTAVO_CLONES static void accumulate_tile(const float* x, const float* before, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = before[i] + x[i];
}

void scale(const Floats& x, const Floats& y, int64_t n, double factor, int threads) {
  element_pieces<kLightTile>(n, threads, {x, y}, [&](int64_t at, int64_t count) {
    scale_tile(x.read<0>(at, count), y.write<1>(at, count), count, static_cast<float>(factor));
  });
}

void accumulate(const Floats& x, const Floats& y, int64_t n, int threads) {
  element_pieces<kLightTile>(n, threads, {x, y}, [&](int64_t at, int64_t count) {
    accumulate_tile(x.read<0>(at, count), y.read<1>(at, count), y.write<1>(at, count), count);
  });
}

OCTAVO_KERNEL_BF16(scale, OwnBf16::any()) {
  const Arguments a(call, "scale", {"x", "y"}, {"factor"});
  a.floating(0), a.same_shape(1, 0);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { scale_reference(a.data<const T>(0), a.data<T>(1), n, a.scalar(0)); },
        [&] { scale(a.floats(0), a.output(1), n, a.scalar(0), a.threads()); });
}

OCTAVO_KERNEL_BF16(accumulate, OwnBf16::any()) {
  const Arguments a(call, "accumulate", {"x", "y"});
  a.floating(0), a.same_shape(1, 0);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { accumulate_reference(a.data<const T>(0), a.data<T>(1), n); },
        [&] { accumulate(a.floats(0), a.floats(1), n, a.threads()); });
}

OCTAVO_KERNEL(accumulate_many) {
  const ManyArguments a(call, "accumulate_many", {"x", "y"}, {}, {});
  a.at().run(
      [&]<class T>(T) { for (int i = 0; i < a.count(); ++i) accumulate_reference(a.data<const T>(i, 0), a.data<T>(i, 1), a.elements(i)); },
      [&] {
        a.tiles([&](int i, int64_t begin, int64_t end) {
          accumulate_tile(a.data<const float>(i, 0) + begin, a.data<const float>(i, 1) + begin, a.data<float>(i, 1) + begin, end - begin);
        });
      });
}
