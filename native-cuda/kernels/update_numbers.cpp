#include "update_numbers.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "list_names.h"

namespace {
struct ClippedNorm {
  double norm, grad_scale;
};

ClippedNorm clipped_norm(const double* squares, int64_t n, double max_norm) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += squares[i];
  const double norm = std::sqrt(total), factor = max_norm / (norm + 1e-6);
  if (max_norm == 0) return {norm, 1};
  return {norm, factor > 1 ? 1 : factor};
}
}  // namespace

OCTAVO_KERNEL(update_numbers) {
  const Arguments a(call, "update_numbers", {"squares", "schedule", "numbers", "norm"}, {"maxNorm"});
  for (int i = 0; i < 4; ++i) a.dtype(i, DType::f64);
  a.count(1, 2, "(learningRate, step)"), a.count(2, 3, "(learningRate, step, gradScale)"), a.count(3, 1, "(1)");
  if (!(a.scalar(0) >= 0)) throw std::invalid_argument(format("update_numbers: maxNorm expected 0 or more, got %g", a.scalar(0)));
  const auto [norm, grad_scale] = clipped_norm(a.data<const double>(0), a[0].numel, a.scalar(0));
  const double* const schedule = a.data<const double>(1);
  double* const numbers = a.data<double>(2);
  numbers[0] = schedule[0], numbers[1] = schedule[1], numbers[2] = grad_scale;
  *a.data<double>(3) = norm;
}

/// The elements of operand i, written to y -> the end of what was written.
static double* as_doubles(const Arguments& a, int i, double* y) {
  const auto copy = [&]<class T>(T) {
    return std::transform(a.data<const T>(i), a.data<const T>(i) + a[i].numel, y, [](T x) { return static_cast<double>(x); });
  };
  switch (a[i].dtype) {
    case DType::f64: return copy(double{});
    case DType::f32: return copy(float{});
    case DType::i64: return copy(int64_t{});
    case DType::i32: return copy(int32_t{});
    case DType::i8: return copy(int8_t{});
    case DType::u8: case DType::b8: return copy(uint8_t{});
    default: throw std::invalid_argument(format("collect: %s expected numbers that can be computed with, got %s", a.name(i).c_str(), dtype_name(a[i].dtype)));
  }
}

OCTAVO_KERNEL(collect) {
  const int count = call.tensors - 1;
  const ListNames names(count, {"y"});
  const Arguments a(call, "collect", names.list());
  int64_t total = 0;
  for (int i = 0; i < count; ++i) total += a[i].numel;
  a.dtype(count, DType::f64), a.count(count, total, "(all elements)");
  double* y = a.data<double>(count);
  for (int i = 0; i < count; ++i) y = as_doubles(a, i, y);
}
