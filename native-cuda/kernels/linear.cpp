#include "linear.h"

#include <type_traits>

#include "../common/bf16.h"
#include "../common/scratch.h"
#include "gemm_tiles.h"
#include "registry.h"
#include "tiles.h"
#include "widening.h"

template <class X, class Y> void linear_forward(const X* x, const X* w, const float* bias, Y* y, int64_t R, int64_t I, int64_t O, int threads) {
  gemm_tiled(false, true, R, O, I, x, w, y, bias, threads);
}

template <class X, class Y> void linear_backward_input(const X* dy, const X* w, Y* dx, int64_t R, int64_t I, int64_t O, int threads) {
  gemm_tiled(false, false, R, I, O, dy, w, dx, nullptr, threads);
}

template <class X, class Y> void linear_backward_weight(const X* dy, const X* x, Y* dw, int64_t R, int64_t I, int64_t O, int threads) {
  gemm_tiled(true, false, O, I, R, dy, x, dw, nullptr, threads);
}

namespace {
inline float widen(float x) { return x; }

template <class X> inline __attribute__((always_inline)) void add_rows_loop(const X* x, int64_t first, int64_t last, int64_t cols, float* line) {
  for (int64_t r = first; r < last; ++r)
    for (int64_t c = 0; c < cols; ++c) line[c] += widen(x[r * cols + c]);
}
OCTAVO_CLONES void add_rows(const float* x, int64_t first, int64_t last, int64_t cols, float* line) { add_rows_loop(x, first, last, cols, line); }
OCTAVO_CLONES void add_rows(const Bf16* x, int64_t first, int64_t last, int64_t cols, float* line) { add_rows_loop(x, first, last, cols, line); }
}  // namespace

template <class X> void linear_backward_bias(const X* dy, float* db, int64_t R, int64_t O, int threads) {
  column_sums(R, O, threads, db, [&](int64_t first, int64_t last, float* line) { add_rows(dy, first, last, O, line); });
}

namespace {
// R is taken from the leading dimensions, not from numel / cols: a width of zero keeps its rows.
int64_t leading(const TensorView& t) {
  int64_t rows = 1;
  for (int d = 0; d + 1 < t.rank; ++d) rows *= t.dim[d];
  return rows;
}

void expect_matrix(const char* kernel, const char* operand, const TensorView& t, int64_t rows, int64_t cols, DType dtype) {
  if (!t) fail("%s: %s is absent", kernel, operand);
  if (t.dtype != dtype) fail("%s: %s expected %s, got %s", kernel, operand, dtype_name(dtype), dtype_name(t.dtype));
  if (leading(t) != rows || t.cols() != cols)
    fail("%s: %s expected (%lld, %lld), got (%lld, %lld)", kernel, operand, static_cast<long long>(rows),
         static_cast<long long>(cols), static_cast<long long>(leading(t)), static_cast<long long>(t.cols()));
}

void expect_vector(const char* kernel, const char* operand, const TensorView& t, int64_t length, DType dtype) {
  if (!t || t.dtype != dtype || t.numel != length)
    fail("%s: %s expected %s (%lld), got %s with %lld elements", kernel, operand, dtype_name(dtype),
         static_cast<long long>(length), t ? dtype_name(t.dtype) : "nothing", static_cast<long long>(t.numel));
}

void expect_operands(const char* kernel, const KernelCall& call, int tensors) {
  if (call.tensors != tensors) fail("%s: expected %d operands, got %d", kernel, tensors, call.tensors);
  const DType dtype = call[0].dtype;
  if (!call[0] || (dtype != DType::f32 && dtype != DType::f64 && dtype != DType::bf16)) fail("%s: expected f32, bf16 or f64", kernel);
}

/// What an operand beside one of type `main` must be: the same, or f32 or bf16 beside bf16.
DType beside(DType main, const TensorView& t) { return main == DType::bf16 && t.dtype == DType::f32 ? DType::f32 : main; }

bool has_bf16(const KernelCall& call) {
  for (int i = 0; i < call.tensors; ++i)
    if (call[i] && call[i].dtype == DType::bf16) return true;
  return false;
}

/// A call with bf16 for which widening everything is the better way, or the only one. `narrows`: an f32 second operand may
/// be narrowed.
bool better_widened(const KernelCall& call, const TensorView& second, bool narrows) {
  constexpr int64_t kFewRows = 16;
  if (!has_bf16(call)) return false;
  if (call[0].dtype != DType::bf16) return true;
  return second.dtype != DType::bf16 && !(narrows && leading(call[0]) >= kFewRows);
}

/// w as bf16, in scratch of this thread when it is f32.
const Bf16* narrowed(const TensorView& w, int threads) {
  if (w.dtype == DType::bf16) return w.as<Bf16>();
  thread_local Scratch<Bf16> scratch;
  Bf16* out = scratch.grown(w.numel);
  element_tiles<kLightTile>(w.numel, threads, [&](int64_t begin, int64_t end) { narrow(w.as<float>() + begin, out + begin, end - begin); });
  return out;
}

/// A bias as f32, in scratch of this thread when it is bf16; null when absent.
const float* widened(const TensorView& bias) {
  if (!bias || bias.dtype == DType::f32) return bias.as<float>();
  thread_local Scratch<float> scratch;
  float* out = scratch.grown(bias.numel);
  widen(bias.as<Bf16>(), out, bias.numel);
  return out;
}

/// body(pointer to the result), of the type that the result has.
template <class F> void into(const TensorView& result, F&& body) {
  if (result.dtype == DType::bf16) body(result.as<Bf16>());
  else body(result.as<float>());
}
}  // namespace

OCTAVO_KERNEL_BF16(linear_forward, OwnBf16::any()) {
  expect_operands("linear_forward", call, 4);
  const TensorView &x = call[0], &w = call[1], &bias = call[2], &y = call[3];
  if (better_widened(call, w, true)) return run_widened(octavo_kernel_linear_forward, call);
  const int64_t R = leading(x), I = x.cols(), O = y.cols();
  expect_matrix("linear_forward", "w", w, O, I, beside(x.dtype, w));
  expect_matrix("linear_forward", "y", y, R, O, beside(x.dtype, y));
  if (bias) expect_vector("linear_forward", "bias", bias, O, beside(x.dtype, bias));
  if (x.dtype == DType::f64) linear_forward_reference(x.as<double>(), w.as<double>(), bias.as<double>(), y.as<double>(), R, I, O);
  else if (call.reference) linear_forward_reference(x.as<float>(), w.as<float>(), bias.as<float>(), y.as<float>(), R, I, O);
  else if (x.dtype == DType::f32) linear_forward(x.as<float>(), w.as<float>(), bias.as<float>(), y.as<float>(), R, I, O, call.threads);
  else into(y, [&](auto* out) { linear_forward(x.as<Bf16>(), narrowed(w, call.threads), widened(bias), out, R, I, O, call.threads); });
}

OCTAVO_KERNEL_BF16(linear_backward_input, OwnBf16::any()) {
  expect_operands("linear_backward_input", call, 3);
  const TensorView &dy = call[0], &w = call[1], &dx = call[2];
  if (better_widened(call, w, true)) return run_widened(octavo_kernel_linear_backward_input, call);
  const int64_t R = leading(dy), I = dx.cols(), O = dy.cols();
  expect_matrix("linear_backward_input", "w", w, O, I, beside(dy.dtype, w));
  expect_matrix("linear_backward_input", "dx", dx, R, I, beside(dy.dtype, dx));
  if (dy.dtype == DType::f64) linear_backward_input_reference(dy.as<double>(), w.as<double>(), dx.as<double>(), R, I, O);
  else if (call.reference) linear_backward_input_reference(dy.as<float>(), w.as<float>(), dx.as<float>(), R, I, O);
  else if (dy.dtype == DType::f32) linear_backward_input(dy.as<float>(), w.as<float>(), dx.as<float>(), R, I, O, call.threads);
  else into(dx, [&](auto* out) { linear_backward_input(dy.as<Bf16>(), narrowed(w, call.threads), out, R, I, O, call.threads); });
}

OCTAVO_KERNEL_BF16(linear_backward_weight, OwnBf16::any()) {
  expect_operands("linear_backward_weight", call, 3);
  const TensorView &dy = call[0], &x = call[1], &dw = call[2];
  if (better_widened(call, x, false)) return run_widened(octavo_kernel_linear_backward_weight, call);
  const int64_t R = leading(dy), I = x.cols(), O = dy.cols();
  expect_matrix("linear_backward_weight", "x", x, R, I, dy.dtype);
  expect_matrix("linear_backward_weight", "dw", dw, O, I, beside(dy.dtype, dw));
  if (dy.dtype == DType::f64) linear_backward_weight_reference(dy.as<double>(), x.as<double>(), dw.as<double>(), R, I, O);
  else if (call.reference) linear_backward_weight_reference(dy.as<float>(), x.as<float>(), dw.as<float>(), R, I, O);
  else if (dy.dtype == DType::f32) linear_backward_weight(dy.as<float>(), x.as<float>(), dw.as<float>(), R, I, O, call.threads);
  else into(dw, [&](auto* out) { linear_backward_weight(dy.as<Bf16>(), x.as<Bf16>(), out, R, I, O, call.threads); });
}

OCTAVO_KERNEL_BF16(linear_backward_bias, OwnBf16::any()) {
  expect_operands("linear_backward_bias", call, 2);
  const TensorView &dy = call[0], &db = call[1];
  if (has_bf16(call) && (dy.dtype != DType::bf16 || db.dtype == DType::bf16)) return run_widened(octavo_kernel_linear_backward_bias, call);
  const int64_t R = leading(dy), O = dy.cols();
  expect_vector("linear_backward_bias", "db", db, O, beside(dy.dtype, db));
  if (dy.dtype == DType::f64) linear_backward_bias_reference(dy.as<double>(), db.as<double>(), R, O);
  else if (call.reference) linear_backward_bias_reference(dy.as<float>(), db.as<float>(), R, O);
  else if (dy.dtype == DType::f32) linear_backward_bias(dy.as<float>(), db.as<float>(), R, O, call.threads);
  else linear_backward_bias(dy.as<Bf16>(), db.as<float>(), R, O, call.threads);
}
