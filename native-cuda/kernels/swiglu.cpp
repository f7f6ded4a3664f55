#include "swiglu.h"

#include "arguments.h"
#include "tiles.h"
#include "vector_math.h"

OCTAVO_CLONES static void forward_tile(const float* gate, const float* up, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = silu_f32(gate[i]) * up[i];
}

OCTAVO_CLONES static void backward_tile(const float* dy, const float* gate, const float* up, float* dgate, float* dup, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = dy[i], g = gate[i], u = up[i], s = sigmoid_f32(g);
    dgate[i] = d * u * s * (1.0f + g * (1.0f - s));
    dup[i] = d * g * s;
  }
}

void swiglu_forward(const Floats& gate, const Floats& up, const Floats& y, int64_t n, int threads) {
  element_pieces(n, threads, {gate, up, y}, [&](int64_t at, int64_t count) {
    const Floats::Output out = y.write<2>(at, count);
    in_whole_vectors(count, {gate.read<0>(at, count), up.read<1>(at, count)}, {out},
                     [](auto& in, auto& to, int64_t n) { forward_tile(in[0], in[1], to[0], n); });
  });
}

void swiglu_backward(const Floats& dy, const Floats& gate, const Floats& up, const Floats& dgate, const Floats& dup, int64_t n, int threads) {
  element_pieces(n, threads, {dy, gate, up, dgate, dup}, [&](int64_t at, int64_t count) {
    const Floats::Output gate_out = dgate.write<3>(at, count), up_out = dup.write<4>(at, count);
    in_whole_vectors(count, {dy.read<0>(at, count), gate.read<1>(at, count), up.read<2>(at, count)}, {gate_out, up_out},
                     [](auto& in, auto& to, int64_t n) { backward_tile(in[0], in[1], in[2], to[0], to[1], n); });
  });
}

OCTAVO_KERNEL_BF16(swiglu_forward, OwnBf16::any()) {
  const Arguments a(call, "swiglu_forward", {"gate", "up", "y"});
  a.floating(0), a.same_shape(1, 0), a.same_shape(2, 0);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { swiglu_forward_reference(a.data<const T>(0), a.data<const T>(1), a.data<T>(2), n); },
        [&] { swiglu_forward(a.floats(0), a.floats(1), a.output(2), n, a.threads()); });
}

OCTAVO_KERNEL_BF16(swiglu_backward, OwnBf16::any()) {
  const Arguments a(call, "swiglu_backward", {"dy", "gate", "up", "dgate", "dup"});
  a.floating(0);
  for (int i : {1, 2, 3, 4}) a.same_shape(i, 0);
  const int64_t n = a[0].numel;
  a.run(
      [&]<class T>(T) {
        swiglu_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), a.data<T>(4), n);
      },
      [&] { swiglu_backward(a.floats(0), a.floats(1), a.floats(2), a.output(3), a.output(4), n, a.threads()); });
}
