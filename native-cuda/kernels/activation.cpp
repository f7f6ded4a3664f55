#include "activation.h"

#include "arguments.h"
#include "tiles.h"
#include "vector_math.h"

namespace {
OCTAVO_INLINE float gelu_slope(float v) { return gelu_slope_f32(v); }
OCTAVO_INLINE float quick_gelu(float v) { return v * sigmoid_f32(1.702f * v); }
OCTAVO_INLINE float quick_gelu_slope(float v) {
  const float s = sigmoid_f32(1.702f * v);
  return s + 1.702f * v * s * (1.0f - s);
}
OCTAVO_INLINE float silu_slope(float v) {
  const float s = sigmoid_f32(v);
  return s + v * s * (1.0f - s);
}
OCTAVO_INLINE float relu(float v) { return v > 0.0f ? v : 0.0f; }
OCTAVO_INLINE float relu_slope(float v) { return v > 0.0f ? 1.0f : 0.0f; }
OCTAVO_INLINE float tanh_slope(float y) { return (1.0f - y) * (1.0f + y); }  // exact where y is near 1
OCTAVO_INLINE float sigmoid_slope(float y) { return y * (1.0f - y); }
// sin and cos serve small tensors (Fourier features); libm's are accurate at every magnitude.
OCTAVO_INLINE float sin_slope(float v) { return std::cos(v); }
OCTAVO_INLINE float cos_slope(float v) { return -std::sin(v); }
OCTAVO_INLINE float exp_slope(float y) { return y; }
OCTAVO_INLINE float log_slope(float v) { return 1.0f / v; }
OCTAVO_INLINE float sqrt_slope(float y) { return 0.5f / y; }
OCTAVO_INLINE float abs_slope(float v) { return v > 0.0f ? 1.0f : v < 0.0f ? -1.0f : 0.0f; }
}  // namespace

#define VALUE_gelu gelu_f32
#define VALUE_quick_gelu quick_gelu
#define VALUE_silu silu_f32
#define VALUE_relu relu
#define VALUE_tanh tanh_f32
#define VALUE_sigmoid sigmoid_f32
#define VALUE_sin std::sin
#define VALUE_cos std::cos
#define VALUE_exp exp_f32
#define VALUE_log std::log
#define VALUE_sqrt std::sqrt
#define VALUE_abs std::fabs
#define SAVED_gelu "x"
#define SAVED_quick_gelu "x"
#define SAVED_silu "x"
#define SAVED_relu "x"
#define SAVED_tanh "y"
#define SAVED_sigmoid "y"
#define SAVED_sin "x"
#define SAVED_cos "x"
#define SAVED_exp "y"
#define SAVED_log "x"
#define SAVED_sqrt "y"
#define SAVED_abs "x"

#define DEFINE(name)                                                                                                                          \
  OCTAVO_CLONES static void name##_forward_tile(const float* x, float* y, int64_t n) {                                                        \
    _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = VALUE_##name(x[i]);                                                            \
  }                                                                                                                                           \
  OCTAVO_CLONES static void name##_backward_tile(const float* dy, const float* saved, float* dx, int64_t n) {                                 \
    _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * name##_slope(saved[i]);                                               \
  }                                                                                                                                           \
  void name##_forward(const Floats& x, const Floats& y, int64_t n, int threads) {                                                             \
    element_pieces(n, threads, {x, y}, [&](int64_t at, int64_t count) {                                                                       \
      const Floats::Output out = y.write<1>(at, count);                                                                                       \
      in_whole_vectors(count, {x.read<0>(at, count)}, {out}, [](auto& in, auto& to, int64_t n) { name##_forward_tile(in[0], to[0], n); });    \
    });                                                                                                                                       \
  }                                                                                                                                           \
  void name##_backward(const Floats& dy, const Floats& saved, const Floats& dx, int64_t n, int threads) {                                     \
    element_pieces(n, threads, {dy, saved, dx}, [&](int64_t at, int64_t count) {                                                              \
      const Floats::Output out = dx.write<2>(at, count);                                                                                      \
      in_whole_vectors(count, {dy.read<0>(at, count), saved.read<1>(at, count)}, {out},                                                       \
                       [](auto& in, auto& to, int64_t n) { name##_backward_tile(in[0], in[1], to[0], n); });                                  \
    });                                                                                                                                       \
  }                                                                                                                                           \
  OCTAVO_KERNEL_BF16(name##_forward, OwnBf16::any()) {                                                                                        \
    const Arguments a(call, #name "_forward", {"x", "y"});                                                                                    \
    a.floating(0), a.same_shape(1, 0);                                                                                                        \
    const int64_t n = a[0].numel;                                                                                                             \
    a.run([&]<class T>(T) { name##_forward_reference(a.data<const T>(0), a.data<T>(1), n); },                                                 \
          [&] { name##_forward(a.floats(0), a.output(1), n, a.threads()); });                                                                 \
  }                                                                                                                                           \
  OCTAVO_KERNEL_BF16(name##_backward, OwnBf16::any()) {                                                                                       \
    const Arguments a(call, #name "_backward", {"dy", SAVED_##name, "dx"});                                                                   \
    a.floating(0), a.same_shape(1, 0), a.same_shape(2, 0);                                                                                    \
    const int64_t n = a[0].numel;                                                                                                             \
    a.run([&]<class T>(T) { name##_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<T>(2), n); },                            \
          [&] { name##_backward(a.floats(0), a.floats(1), a.output(2), n, a.threads()); });                                                   \
  }
OCTAVO_ACTIVATIONS(DEFINE)
