// Sums, dot products and peaks of one row, in sixteen lanes and a fixed tree: a row has one value on every machine, whether
// its lanes are one register, two or four. For use inside functions with OCTAVO_CLONES.
#pragma once
#include "vector_math.h"

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int64_t kLanes = 16;

OCTAVO_INLINE float lanes_total(const Lanes& lanes) {
  float v[kLanes];
  std::memcpy(v, &lanes, sizeof v);
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
    for (int64_t l = 0; l < width; ++l) v[l] += v[l + width];
  return v[0];
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
