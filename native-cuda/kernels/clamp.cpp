#include "clamp.h"

#include <cmath>
#include <stdexcept>

#include "arguments.h"
#include "tiles.h"

OCTAVO_CLONES static void clamp_tile(const float* x, float* y, int64_t n, float low, float high) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float v = x[i], lifted = v < low ? low : v;
    y[i] = lifted > high ? high : lifted;
  }
}

OCTAVO_CLONES static void clamp_slope_tile(const float* dy, const float* x, float* dx, int64_t n, float low, float high) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float above = x[i] < low ? 0.0f : dy[i];
    dx[i] = x[i] > high ? 0.0f : above;
  }
}

void clamp_forward(const float* x, float* y, int64_t n, double low, double high, int threads) {
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) {
    clamp_tile(x + begin, y + begin, end - begin, static_cast<float>(low), static_cast<float>(high));
  });
}

void clamp_backward(const float* dy, const float* x, float* dx, int64_t n, double low, double high, int threads) {
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) {
    clamp_slope_tile(dy + begin, x + begin, dx + begin, end - begin, static_cast<float>(low), static_cast<float>(high));
  });
}

// Squares are products; other exponents go through libm, element by element: they are rare and their accuracy matters.
void power_forward(const float* x, float* y, int64_t n, double exponent, int threads) {
  const auto e = static_cast<float>(exponent);
  element_tiles(n, threads, [&](int64_t begin, int64_t end) {
    if (exponent == 2) for (int64_t i = begin; i < end; ++i) y[i] = x[i] * x[i];
    else for (int64_t i = begin; i < end; ++i) y[i] = std::pow(x[i], e);
  });
}

void power_backward(const float* dy, const float* x, float* dx, int64_t n, double exponent, int threads) {
  const auto e = static_cast<float>(exponent), below = static_cast<float>(exponent - 1);
  element_tiles(n, threads, [&](int64_t begin, int64_t end) {
    if (exponent == 0) std::fill(dx + begin, dx + end, 0.0f);
    else if (exponent == 2) for (int64_t i = begin; i < end; ++i) dx[i] = dy[i] * 2.0f * x[i];
    else for (int64_t i = begin; i < end; ++i) dx[i] = dy[i] * e * std::pow(x[i], below);
  });
}

static void check_range(const Arguments& a) {
  if (!(a.scalar(0) <= a.scalar(1)))
    throw std::invalid_argument(format("%s: low expected at most high, got %g and %g", a.kernel(), a.scalar(0), a.scalar(1)));
}

OCTAVO_KERNEL(clamp_forward) {
  const Arguments a(call, "clamp_forward", {"x", "y"}, {"low", "high"});
  a.floating(0), a.like(1, 0), check_range(a);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { clamp_forward_reference(a.data<const T>(0), a.data<T>(1), n, a.scalar(0), a.scalar(1)); },
        [&] { clamp_forward(a.data<const float>(0), a.data<float>(1), n, a.scalar(0), a.scalar(1), a.threads()); });
}

OCTAVO_KERNEL(clamp_backward) {
  const Arguments a(call, "clamp_backward", {"dy", "x", "dx"}, {"low", "high"});
  a.floating(0), a.like(1, 0), a.like(2, 0), check_range(a);
  const int64_t n = a[0].numel;
  a.run(
      [&]<class T>(T) { clamp_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<T>(2), n, a.scalar(0), a.scalar(1)); },
      [&] { clamp_backward(a.data<const float>(0), a.data<const float>(1), a.data<float>(2), n, a.scalar(0), a.scalar(1), a.threads()); });
}

OCTAVO_KERNEL(power_forward) {
  const Arguments a(call, "power_forward", {"x", "y"}, {"exponent"});
  a.floating(0), a.like(1, 0);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { power_forward_reference(a.data<const T>(0), a.data<T>(1), n, a.scalar(0)); },
        [&] { power_forward(a.data<const float>(0), a.data<float>(1), n, a.scalar(0), a.threads()); });
}

OCTAVO_KERNEL(power_backward) {
  const Arguments a(call, "power_backward", {"dy", "x", "dx"}, {"exponent"});
  a.floating(0), a.like(1, 0), a.like(2, 0);
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { power_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<T>(2), n, a.scalar(0)); },
        [&] { power_backward(a.data<const float>(0), a.data<const float>(1), a.data<float>(2), n, a.scalar(0), a.threads()); });
}
