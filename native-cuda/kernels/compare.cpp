#include "compare.h"

#include "arguments.h"
#include "nest.h"
#include "tiles.h"

#define DEFINE_RUN(name, T, op)                                                                                             \
  OCTAVO_CLONES static void name##_run(const T* a, const T* b, uint8_t* y, int64_t n, int64_t sa, int64_t sb) {             \
    if (sa && sb) {                                                                                                         \
      _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = a[i] op b[i];                                              \
    } else if (sa) {                                                                                                        \
      const T q = *b;                                                                                                       \
      _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = a[i] op q;                                                 \
    } else {                                                                                                                \
      const T p = *a;                                                                                                       \
      _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = p op b[i * sb];                                            \
    }                                                                                                                       \
  }

#define DEFINE(name, op)                                                                                                    \
  DEFINE_RUN(name##_floats, float, op)                                                                                      \
  DEFINE_RUN(name##_ids, int32_t, op)                                                                                       \
  void name(const TensorView& a, const TensorView& b, const TensorView& y, int threads) {                                   \
    const TensorView* operands[] = {&a, &b};                                                                                \
    each_run(operands, y, threads, [&](const int64_t* at, const int64_t* step, int64_t to, int64_t n) {                     \
      uint8_t* out = y.as<uint8_t>() + to;                                                                                  \
      if (a.dtype == DType::f32) name##_floats_run(a.as<const float>() + at[0], b.as<const float>() + at[1], out, n, step[0], step[1]); \
      else name##_ids_run(a.as<const int32_t>() + at[0], b.as<const int32_t>() + at[1], out, n, step[0], step[1]);          \
    });                                                                                                                     \
  }                                                                                                                         \
  OCTAVO_KERNEL(name) {                                                                                                     \
    const Arguments a(call, #name, {"a", "b", "y"});                                                                        \
    if (a[0].dtype != DType::i32) a.floating(0);                                                                            \
    a.same_dtype(1, 0), a.dtype(2, DType::u8);                                                                              \
    check_broadcast_shape(a, 2);                                                                                            \
    if (a[0].dtype == DType::f64) return name##_reference<double>(a[0], a[1], a[2]);                                        \
    if (!call.reference) return name(a[0], a[1], a[2], a.threads());                                                        \
    if (a[0].dtype == DType::i32) return name##_reference<int32_t>(a[0], a[1], a[2]);                                       \
    name##_reference<float>(a[0], a[1], a[2]);                                                                              \
  }
OCTAVO_COMPARISONS(DEFINE)

OCTAVO_CLONES static void where_run(const uint8_t* mask, const uint32_t* a, const uint32_t* b, uint32_t* y, int64_t n, const int64_t* step) {
  if (step[0] && step[1] && step[2]) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = mask[i] ? a[i] : b[i];
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = mask[i * step[0]] ? a[i * step[1]] : b[i * step[2]];
  }
}

void where(const TensorView& mask, const TensorView& a, const TensorView& b, const TensorView& y, int threads) {
  const TensorView* operands[] = {&mask, &a, &b};
  each_run(operands, y, threads, [&](const int64_t* at, const int64_t* step, int64_t to, int64_t n) {
    where_run(mask.as<const uint8_t>() + at[0], a.as<const uint32_t>() + at[1], b.as<const uint32_t>() + at[2], y.as<uint32_t>() + to, n, step);
  });
}

OCTAVO_KERNEL(where) {
  const Arguments a(call, "where", {"mask", "a", "b", "y"});
  a.mask(0), a.same_dtype(2, 1), a.same_dtype(3, 1);
  const size_t bytes = dtype_bytes(a[1].dtype);
  if (bytes != 4 && bytes != 8) throw std::invalid_argument("where: a expected a dtype of 4 or 8 bytes, got " + shape_text(a[1]));
  check_broadcast_shape(a, 3);
  if (bytes == 8) return where_reference<uint64_t>(a[0], a[1], a[2], a[3]);
  if (call.reference) return where_reference<uint32_t>(a[0], a[1], a[2], a[3]);
  where(a[0], a[1], a[2], a[3], a.threads());
}
