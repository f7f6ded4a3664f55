#include "sum.h"

#include <algorithm>

#include "list_names.h"
#include "many.h"
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

static void sum_squares(const Arguments& a, int count, double* y) {
  const ManyTiles cut(count, [&](int i) { return a[i].numel; });
  std::vector<double> partial(static_cast<size_t>(cut.tiles()));
  cut.each(a.threads(), [&](int64_t tile, int i, int64_t begin, int64_t end) {
    partial[static_cast<size_t>(tile)] = sum_squares_tile(a.data<const float>(i) + begin, end - begin);
  });
  for (int i = 0; i < count; ++i) {
    y[i] = 0;
    for (int64_t tile = cut.first(i); tile < cut.first(i + 1); ++tile) y[i] += partial[static_cast<size_t>(tile)];
  }
}

OCTAVO_KERNEL(sum_squares) {
  const ListNames names(call.tensors - 1, {"y"});
  const Arguments a(call, "sum_squares", names.list(), {"first"});
  const int count = call.tensors - 1;
  a.dtype(count, DType::f64);
  double* const y = a.data<double>(count) + a.whole(0, 0, a[count].numel - count);
  for (int i = 0; i < count; ++i) a.floating(i), a.same_dtype(i, 0);
  a.run([&]<class T>(T) { for (int i = 0; i < count; ++i) y[i] = sum_squares_reference(a.data<const T>(i), a[i].numel); },
        [&] { sum_squares(a, count, y); });
}
