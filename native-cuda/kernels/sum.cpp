#include "sum.h"

#include "arguments.h"
#include "tiles.h"

OCTAVO_CLONES static double sum_tile(const float* x, int64_t n) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < n; ++i) total += x[i];
  return total;
}

OCTAVO_CLONES static double sum_squares_tile(const float* x, int64_t n) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

double sum_all(const float* x, int64_t n, int threads) {
  return sum_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { return sum_tile(x + begin, end - begin); });
}

void sum_all_backward(const float* dy, float* dx, int64_t n, int threads) {
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { std::fill(dx + begin, dx + end, *dy); });
}

double sum_squares(const float* x, int64_t n, int threads) {
  return sum_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { return sum_squares_tile(x + begin, end - begin); });
}

OCTAVO_KERNEL(sum_all) {
  const Arguments a(call, "sum_all", {"x", "y"});
  a.floating(0), a.same_dtype(1, 0), a.count(1, 1, "(1)");
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { *a.data<T>(1) = static_cast<T>(sum_all_reference(a.data<const T>(0), n)); },
        [&] { *a.data<float>(1) = static_cast<float>(sum_all(a.data<const float>(0), n, a.threads())); });
}

OCTAVO_KERNEL(sum_all_backward) {
  const Arguments a(call, "sum_all_backward", {"dy", "dx"});
  a.floating(0), a.same_dtype(1, 0), a.count(0, 1, "(1)");
  const int64_t n = a[1].numel;
  a.run([&]<class T>(T) { sum_all_backward_reference(a.data<const T>(0), a.data<T>(1), n); },
        [&] { sum_all_backward(a.data<const float>(0), a.data<float>(1), n, a.threads()); });
}

OCTAVO_KERNEL(sum_squares) {
  const Arguments a(call, "sum_squares", {"x", "y"}, {"index"});
  a.floating(0), a.dtype(1, DType::f64);
  double& y = a.data<double>(1)[a.whole(0, 0, a[1].numel - 1)];
  const int64_t n = a[0].numel;
  a.run([&]<class T>(T) { y = sum_squares_reference(a.data<const T>(0), n); },
        [&] { y = sum_squares(a.data<const float>(0), n, a.threads()); });
}
