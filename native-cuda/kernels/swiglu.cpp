#include "swiglu.h"

#include "arguments.h"
#include "tiles.h"
#include "vector_math.h"

OCTAVO_CLONES static void forward_tile(const float* gate, const float* up, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = gate[i] * sigmoid_f32(gate[i]) * up[i];
}

OCTAVO_CLONES static void backward_tile(const float* dy, const float* gate, const float* up, float* dgate, float* dup, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = dy[i], g = gate[i], u = up[i], s = sigmoid_f32(g);
    dgate[i] = d * u * s * (1.0f + g * (1.0f - s));
    dup[i] = d * g * s;
  }
}

void swiglu_forward(const float* gate, const float* up, float* y, int64_t n, int threads) {
  element_tiles(n, threads, [&](int64_t begin, int64_t end) { forward_tile(gate + begin, up + begin, y + begin, end - begin); });
}

void swiglu_backward(const float* dy, const float* gate, const float* up, float* dgate, float* dup, int64_t n, int threads) {
  element_tiles(n, threads, [&](int64_t begin, int64_t end) {
    backward_tile(dy + begin, gate + begin, up + begin, dgate + begin, dup + begin, end - begin);
  });
}

OCTAVO_KERNEL(swiglu_forward) {
  const Arguments a(call, "swiglu_forward", {"gate", "up", "y"});
  a.floating(0), a.like(1, 0), a.like(2, 0);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { swiglu_forward_reference(a.data<const T>(0), a.data<const T>(1), a.data<T>(2), n); },
        [&] { swiglu_forward(a.data<const float>(0), a.data<const float>(1), a.data<float>(2), n, a.threads()); });
}

OCTAVO_KERNEL(swiglu_backward) {
  const Arguments a(call, "swiglu_backward", {"dy", "gate", "up", "dgate", "dup"});
  a.floating(0), a.like(1, 0), a.like(2, 0), a.like(3, 0), a.like(4, 0);
  const int64_t n = a[0].numel;
  a.run(
      [&]<class T>(T) {
        swiglu_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), a.data<T>(4), n);
      },
      [&] {
        swiglu_backward(a.data<const float>(0), a.data<const float>(1), a.data<const float>(2), a.data<float>(3),
                        a.data<float>(4), n, a.threads());
      });
}
