#include "linear.h"

#include "gemm_tiles.h"
#include "registry.h"
#include "tiles.h"

namespace {
OCTAVO_CLONES void add_bias(float* y, int64_t stride, const float* bias, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) y[r * stride + c] += bias[c];
}

OCTAVO_CLONES void add_rows(const float* x, int64_t first, int64_t last, int64_t cols, float* line) {
  for (int64_t r = first; r < last; ++r)
    for (int64_t c = 0; c < cols; ++c) line[c] += x[r * cols + c];
}
}  // namespace

void linear_forward(const float* x, const float* w, const float* bias, float* y, int64_t R, int64_t I, int64_t O, int threads) {
  if (!bias) return gemm_tiled(false, true, R, O, I, x, I, w, I, y, O, threads);
  gemm_tiled(false, true, R, O, I, x, I, w, I, y, O, threads, [&](int64_t i0, int64_t rows, int64_t j0, int64_t cols) {
    add_bias(y + i0 * O + j0, O, bias + j0, rows, cols);
  });
}

void linear_backward_input(const float* dy, const float* w, float* dx, int64_t R, int64_t I, int64_t O, int threads) {
  gemm_tiled(false, false, R, I, O, dy, O, w, I, dx, I, threads);
}

void linear_backward_weight(const float* dy, const float* x, float* dw, int64_t R, int64_t I, int64_t O, int threads) {
  gemm_tiled(true, false, O, I, R, dy, O, x, I, dw, I, threads);
}

void linear_backward_bias(const float* dy, float* db, int64_t R, int64_t O, int threads) {
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
  if (!call[0] || (call[0].dtype != DType::f32 && call[0].dtype != DType::f64)) fail("%s: expected f32 or f64", kernel);
}
}  // namespace

OCTAVO_KERNEL(linear_forward) {
  expect_operands("linear_forward", call, 4);
  const TensorView &x = call[0], &w = call[1], &bias = call[2], &y = call[3];
  const int64_t R = leading(x), I = x.cols(), O = y.cols();
  expect_matrix("linear_forward", "w", w, O, I, x.dtype);
  expect_matrix("linear_forward", "y", y, R, O, x.dtype);
  if (bias) expect_vector("linear_forward", "bias", bias, O, x.dtype);
  if (x.dtype == DType::f64) linear_forward_reference(x.as<double>(), w.as<double>(), bias.as<double>(), y.as<double>(), R, I, O);
  else if (call.reference) linear_forward_reference(x.as<float>(), w.as<float>(), bias.as<float>(), y.as<float>(), R, I, O);
  else linear_forward(x.as<float>(), w.as<float>(), bias.as<float>(), y.as<float>(), R, I, O, call.threads);
}

OCTAVO_KERNEL(linear_backward_input) {
  expect_operands("linear_backward_input", call, 3);
  const TensorView &dy = call[0], &w = call[1], &dx = call[2];
  const int64_t R = leading(dy), I = dx.cols(), O = dy.cols();
  expect_matrix("linear_backward_input", "w", w, O, I, dy.dtype);
  expect_matrix("linear_backward_input", "dx", dx, R, I, dy.dtype);
  if (dy.dtype == DType::f64) linear_backward_input_reference(dy.as<double>(), w.as<double>(), dx.as<double>(), R, I, O);
  else if (call.reference) linear_backward_input_reference(dy.as<float>(), w.as<float>(), dx.as<float>(), R, I, O);
  else linear_backward_input(dy.as<float>(), w.as<float>(), dx.as<float>(), R, I, O, call.threads);
}

OCTAVO_KERNEL(linear_backward_weight) {
  expect_operands("linear_backward_weight", call, 3);
  const TensorView &dy = call[0], &x = call[1], &dw = call[2];
  const int64_t R = leading(dy), I = x.cols(), O = dy.cols();
  expect_matrix("linear_backward_weight", "x", x, R, I, dy.dtype);
  expect_matrix("linear_backward_weight", "dw", dw, O, I, dy.dtype);
  if (dy.dtype == DType::f64) linear_backward_weight_reference(dy.as<double>(), x.as<double>(), dw.as<double>(), R, I, O);
  else if (call.reference) linear_backward_weight_reference(dy.as<float>(), x.as<float>(), dw.as<float>(), R, I, O);
  else linear_backward_weight(dy.as<float>(), x.as<float>(), dw.as<float>(), R, I, O, call.threads);
}

OCTAVO_KERNEL(linear_backward_bias) {
  expect_operands("linear_backward_bias", call, 2);
  const TensorView &dy = call[0], &db = call[1];
  const int64_t R = leading(dy), O = dy.cols();
  expect_vector("linear_backward_bias", "db", db, O, dy.dtype);
  if (dy.dtype == DType::f64) linear_backward_bias_reference(dy.as<double>(), db.as<double>(), R, O);
  else if (call.reference) linear_backward_bias_reference(dy.as<float>(), db.as<float>(), R, O);
  else linear_backward_bias(dy.as<float>(), db.as<float>(), R, O, call.threads);
}
