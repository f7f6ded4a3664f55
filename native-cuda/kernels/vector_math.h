// exp, sigmoid, tanh and the normal distribution for f32, without branches or calls, so that loops over them vectorise.
// Accuracy (worst relative error over the whole range, measured against f64 by the kernel tests): exp and sigmoid 2e-7,
// tanh 3e-7, normal tail 5e-7. Infinities and NaN behave as in libm.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define OCTAVO_INLINE inline __attribute__((always_inline))

OCTAVO_INLINE int32_t float_bits(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

OCTAVO_INLINE float bits_float(int32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// exp(x) = 2^k exp(r) with |r| <= ln 2 / 2. Two functions, not a struct of both: GCC 12 vectorises a loop over the struct with a
// quarter of the register.

/// k + 1.5 * 2^23: adding that rounds to the nearest integer, which then sits in the low bits.
OCTAVO_INLINE float exp_shifted_f32(float x) { return x * 1.44269504088896341f + 12582912.0f; }

/// exp(r + tail) with |tail| small: the tail carries what the rounding of x lost.
OCTAVO_INLINE float exp_mantissa_f32(float x, float shifted, float tail) {
  const float k = shifted - 12582912.0f;
  float r = x - k * 0.693359375f;  // ln 2 in two parts (Cody and Waite); k * 0.693359375 is exact
  r = r - k * -2.12194440e-4f + tail;
  float p = 1.9875691500e-4f;  // minimax polynomial of (exp(r) - 1 - r) / r^2 from Cephes expf (Moshier)
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return (p * r) * r + r + 1.0f;
}

/// exp(x) for every x.
OCTAVO_INLINE float exp_f32(float x) {
  const float shifted = exp_shifted_f32(x);
  const int32_t n = float_bits(shifted) - 0x4B400000;
  const int32_t half = n >> 1;  // 2^n in two factors: n reaches 128 and -150, beyond one exponent field
  float y = exp_mantissa_f32(x, shifted, -0.0f) * bits_float((half + 127) << 23) * bits_float((n - half + 127) << 23);
  y = x < -104.0f ? 0.0f : y;  // selected at the end: clamping x instead lets GCC 12 compare four times, or split the loop
  return x > 89.0f ? __builtin_inff() : y;
}

/// exp(x + tail) for x <= 44, as in a softmax: half the scaling. 2^n = 2^(n + 63) 2^-63, and only the last product rounds.
/// The default tail is the zero that adding costs nothing.
OCTAVO_INLINE float exp_falling_f32(float x, float tail = -0.0f) {
  const float shifted = exp_shifted_f32(x);
  const float y = exp_mantissa_f32(x, shifted, tail) * bits_float((float_bits(shifted) - (0x4B400000 - 190)) << 23) * 0x1p-63f;
  return x < -104.0f ? 0.0f : y;
}

/// 1 / (1 + exp(-x)), relative accuracy kept in the negative tail.
OCTAVO_INLINE float sigmoid_f32(float x) {
  const float e = exp_falling_f32(-std::fabs(x));
  const float s = 1.0f / (1.0f + e);
  return x < 0.0f ? e * s : s;
}

OCTAVO_INLINE float tanh_f32(float x) {
  const float a = std::fabs(x), z = x * x;
  float p = -5.70498872745e-3f;  // |x| < 0.625: Cephes tanhf (Moshier); beyond, 1 - 2 / (exp(2|x|) + 1) does not cancel
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = (p * z) * x + x;
  const float far = 1.0f - 2.0f / (exp_f32(2.0f * a) + 1.0f);
  const float signed_far = x < 0.0f ? -far : far;
  return a < 0.625f ? near : signed_far;
}

/// exp(-x^2 / 2). The square is split so that its rounding is not magnified in the tail.
OCTAVO_INLINE float bell_f32(float x) {
  const float high = bits_float(float_bits(x) & static_cast<int32_t>(0xFFFFF000));  // 12 bits: its square is exact
  const float tail = -0.5f * (x - high) * (x + high);
  return exp_falling_f32(-0.5f * high * high, tail);  // 0 where the tail overflows
}

/// phi(x) = exp(-x^2 / 2) / sqrt(2 pi), the density of the normal distribution, from the bell.
OCTAVO_INLINE float normal_density_f32(float bell) { return 0.398942280401432678f * bell; }

/// Phi(x), the chance that a standard normal number is below x; `bell` is bell_f32(x).
/// Phi(-a) = exp(-a^2/2) Q(a) for a >= 0, Q(a) = erfcx(a / sqrt 2) / 2 as a polynomial in t = 1 / (1 + 0.35 a).
/// The coefficients are a reweighted least-squares (near minimax) fit of Q(a) / t on [0, 14.5]; relative error 3.2e-8.
OCTAVO_INLINE float normal_below_f32(float x, float bell) {
  const float a = std::fabs(x), t = 1.0f / (1.0f + 0.35f * a);
  float q = -2.915822342e-2f;
  q = q * t + 1.440325379e-1f;
  q = q * t - 2.558422685e-1f;
  q = q * t + 1.593233347e-1f;
  q = q * t - 2.321478166e-2f;
  q = q * t + 1.055534929e-1f;
  q = q * t + 1.198210493e-1f;
  q = q * t + 1.398635507e-1f;
  q = q * t + 1.396213025e-1f;
  const float tail = q * t * bell;
  return x < 0.0f ? tail : 1.0f - tail;
}
