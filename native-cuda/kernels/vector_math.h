// exp, sigmoid, tanh and the normal distribution for f32, without branches or calls, so that loops over them vectorise.
// Accuracy (worst relative error over the whole range, measured against f64 by the kernel tests): exp and sigmoid 2e-7,
// tanh 3e-7, gelu 5e-7. Infinities and NaN behave as in libm.
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

// exp(x) = 2^k exp(r) with |r| <= ln 2 / 2. Several functions, not a struct: GCC 12 vectorises a loop over the struct with a
// quarter of the register. What bounds loops over them are products, fused or not (one wide one per cycle): sums and work on bits are
// nearly free beside them.

/// k + `magic`, which is 1.5 * 2^23 and a whole number: adding that rounds to the nearest integer, which then sits in the low bits.
OCTAVO_INLINE float exp_shifted_f32(float x, float magic) { return x * 1.44269504088896341f + magic; }

/// exp(r + tail) - 1 with |tail| small: the tail carries what the rounding of x lost.
OCTAVO_INLINE float exp_minus_one_f32(float x, float k, float tail) {
  float r = x - k * 0.693359375f;  // ln 2 in two parts (Cody and Waite); k * 0.693359375 is exact
  r = r - k * -2.12194440e-4f + tail;
  float p = 1.3821225148e-3f;  // (exp(r) - 1 - r) / r^2 on |r| < 0.3467: a reweighted least-squares (near minimax) fit,
  p = p * r + 8.3686672151e-3f;  // of relative error 3.2e-9 in exp(r)
  p = p * r + 4.1668258607e-2f;
  p = p * r + 1.6666521132e-1f;
  p = p * r + 4.9999994040e-1f;
  return (p * r) * r + r;
}

/// exp(x) for every x.
OCTAVO_INLINE float exp_f32(float x) {
  const float shifted = exp_shifted_f32(x, 12582912.0f);
  const int32_t n = float_bits(shifted) - 0x4B400000;
  const int32_t half = n >> 1;  // 2^n in two factors: n reaches 128 and -150, beyond one exponent field
  const float m = exp_minus_one_f32(x, shifted - 12582912.0f, -0.0f), scale = bits_float((half + 127) << 23);
  float y = (m * scale + scale) * bits_float((n - half + 127) << 23);
  y = x < -104.0f ? 0.0f : y;  // selected at the end: clamping x instead lets GCC 12 compare four times, or split the loop
  return x > 89.0f ? __builtin_inff() : y;
}

/// exp(x + tail) for x <= 44, as in a softmax: half the scaling. 2^n = 2^(n + 63) 2^-63, and only the last product rounds; the magic
/// number has 63 and the bias of exponents in it, so that shifting its sum makes 2^(n + 63). The default tail costs nothing.
OCTAVO_INLINE float exp_falling_f32(float x, float tail = -0.0f) {
  constexpr float magic = 12582912.0f + 63 + 127;
  const float shifted = exp_shifted_f32(x, magic), scale = bits_float(float_bits(shifted) << 23);
  const float y = (exp_minus_one_f32(x, shifted - magic, tail) * scale + scale) * 0x1p-63f;
  return x < -104.0f ? 0.0f : y;
}

/// 1 / (1 + exp(-x)), relative accuracy kept in the negative tail.
OCTAVO_INLINE float sigmoid_f32(float x) {
  const float e = exp_falling_f32(-std::fabs(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/// x sigmoid(x).
OCTAVO_INLINE float silu_f32(float x) {
  const float e = exp_falling_f32(-std::fabs(x));
  return (x < 0.0f ? x * e : x) / (1.0f + e);
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

// The normal distribution, from a = min(|x|, kNormalEdge): exp(-kNormalEdge^2 / 2) is below the least number, and infinities
// stay out of the products.
constexpr float kNormalEdge = 14.5f;

OCTAVO_INLINE float normal_distance_f32(float x) {
  const float a = std::fabs(x);
  return a > kNormalEdge ? kNormalEdge : a;  // a NaN stays
}

/// exp(-a^2 / 2) for a within [0, kNormalEdge]. The square is split so that its rounding is not magnified in the tail. The steps are
/// those of exp_falling_f32 in r = -2 (x - k ln 2), which halves nothing on the way: the polynomial's coefficients carry the halves.
OCTAVO_INLINE float bell_f32(float a) {
  constexpr float magic = 12582912.0f + 63 + 127;
  const float high = bits_float(float_bits(a) & static_cast<int32_t>(0xFFFFF000)), square = high * high;  // 12 bits: exact
  const float shifted = square * -0.72134752044448170f + magic, k = shifted - magic, scale = bits_float(float_bits(shifted) << 23);
  float r = square + k * 1.38671875f;
  r = r + k * -4.24388940e-4f;
  r = r + (a - high) * (a + high);
  float p = 2.1595664293e-05f;
  p = p * r - 2.6152085047e-04f;
  p = p * r + 2.6042661630e-03f;
  p = p * r - 2.0833151415e-02f;
  p = p * r + 1.2499998510e-01f;
  p = p * r - 0.5f;
  return ((p * r) * scale + scale) * 0x1p-63f;
}

/// Q(a) = Phi(-a) exp(a^2 / 2) = erfcx(a / sqrt 2) / 2 as a quotient of polynomials without a negative coefficient, so that nothing
/// cancels: a reweighted least-squares (near minimax) fit on [0, 14.5]; relative error 3.7e-8.
OCTAVO_INLINE float normal_ratio_f32(float a) {
  float p = 4.116291272e-3f, q = 1.031789234e-2f;
  p = p * a + 4.063311322e-2f;
  p = p * a + 1.832348115e-1f;
  p = p * a + 4.382945250e-1f;
  p = p * a + 5.000000030e-1f;
  q = q * a + 1.018585576e-1f;
  q = q * a + 4.694697656e-1f;
  q = q * a + 1.202501810f;
  q = q * a + 1.674474031f;
  q = q * a + 1.0f;
  return p / q;
}

/// x Phi(x) = max(x, 0) - a Phi(-a), Phi(x) the chance that a standard normal number is below x.
OCTAVO_INLINE float gelu_f32(float x) {
  const float a = normal_distance_f32(x), above = x > 0.0f ? x : 0.0f;
  return above - (a * bell_f32(a)) * normal_ratio_f32(a);
}

/// Phi(x) + x phi(x): with w = a phi(a) - Phi(-a), 1 + w above zero and -w below.
OCTAVO_INLINE float gelu_slope_f32(float x) {
  const float a = normal_distance_f32(x), w = (a * 0.398942280401432678f - normal_ratio_f32(a)) * bell_f32(a);
  return x < 0.0f ? -w : 1.0f + w;
}
