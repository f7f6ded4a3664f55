// bf16: the upper half of an f32. Widening is exact; narrowing rounds to nearest even.
// BF-1: narrow(widen(x)) is x, bit by bit, except that a signalling NaN becomes quiet. A NaN stays a NaN, with its sign; what
//       is beyond the largest bf16 (3.39e38) becomes infinite; denormals are kept.
#pragma once
#include <cstdint>
#include <cstring>

struct Bf16 {
  uint16_t bits;
};

inline float widen(Bf16 x) {
  const uint32_t wide = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &wide, sizeof y);
  return y;
}

inline Bf16 narrow(float x) {
  uint32_t wide;
  std::memcpy(&wide, &x, sizeof wide);
  const uint32_t rounded = wide + 0x7FFFu + (wide >> 16 & 1), quiet = wide | 0x400000u;
  return {static_cast<uint16_t>((x != x ? quiet : rounded) >> 16)};
}

/// y[0, n) from x[0, n), vectorised, on the calling thread. x and y do not overlap.
void widen(const Bf16* x, float* y, int64_t n);
void narrow(const float* x, Bf16* y, int64_t n);
