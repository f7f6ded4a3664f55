// Sums, dot products and peaks of one row, in sixteen lanes and a fixed tree: a row has one value on every machine, whether
// its lanes are one register, two or four. For use inside functions with OCTAVO_CLONES.
#pragma once
#include "vector_math.h"

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int64_t kLanes = 16;

/// The sum of the lanes: halves onto each other, written out in registers of half the width. A loop over an array goes through
/// memory at every step, which took a third of a softmax over 256.
OCTAVO_INLINE float lanes_total(const Lanes& lanes) {
  typedef float Eight __attribute__((vector_size(32)));
  typedef float Four __attribute__((vector_size(16)));
  Eight eight[2];
  std::memcpy(eight, &lanes, sizeof lanes);
  const Eight folded = eight[0] + eight[1];
  Four four[2];
  std::memcpy(four, &folded, sizeof folded);
  const Four v = four[0] + four[1];
  return (v[0] + v[2]) + (v[1] + v[3]);
}

OCTAVO_INLINE float row_sum(const float* x, int64_t n) {
  Lanes even = {}, odd = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    even += *reinterpret_cast<const Lanes*>(x + i);
    odd += *reinterpret_cast<const Lanes*>(x + i + kLanes);
  }
  float rest = 0;
  for (; i < n; ++i) rest += x[i];
  even += odd;
  return lanes_total(even) + rest;
}

OCTAVO_INLINE float row_dot(const float* a, const float* b, int64_t n) {
  Lanes even = {}, odd = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    even += *reinterpret_cast<const Lanes*>(a + i) * *reinterpret_cast<const Lanes*>(b + i);
    odd += *reinterpret_cast<const Lanes*>(a + i + kLanes) * *reinterpret_cast<const Lanes*>(b + i + kLanes);
  }
  float rest = 0;
  for (; i < n; ++i) rest += a[i] * b[i];
  even += odd;
  return lanes_total(even) + rest;
}

/// Sum of (x - middle)^2.
OCTAVO_INLINE float row_squares(const float* x, float middle, int64_t n) {
  Lanes even = {}, odd = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const Lanes a = *reinterpret_cast<const Lanes*>(x + i) - middle, b = *reinterpret_cast<const Lanes*>(x + i + kLanes) - middle;
    even += a * a, odd += b * b;
  }
  float rest = 0;
  for (; i < n; ++i) rest += (x[i] - middle) * (x[i] - middle);
  even += odd;
  return lanes_total(even) + rest;
}

/// Largest element; -infinity when n is 0. A NaN is passed over: it shows up in the sum that follows.
OCTAVO_INLINE float row_peak(const float* x, int64_t n) {
  float peak = -__builtin_inff();
  int64_t i = 0;
  if (n >= kLanes) {
    Lanes best = *reinterpret_cast<const Lanes*>(x);
    for (i = kLanes; i + kLanes <= n; i += kLanes) {
      const Lanes next = *reinterpret_cast<const Lanes*>(x + i);
      best = next > best ? next : best;
    }
    float v[kLanes];
    std::memcpy(v, &best, sizeof v);
    for (float lane : v) peak = lane > peak ? lane : peak;
  }
  for (; i < n; ++i) peak = x[i] > peak ? x[i] : peak;
  return peak;
}
