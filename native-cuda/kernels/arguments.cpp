#include "arguments.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "operand_names.h"

Arguments::Arguments(const KernelCall& call, const char* kernel, const std::vector<const char*>& tensors,
                     const std::vector<const char*>& scalars)
    : call_(call), kernel_(kernel), names_(tensors), scalar_names_(scalars) {
  note_operand_names(names_);
  const int wanted_tensors = static_cast<int>(tensors.size()), wanted_scalars = static_cast<int>(scalars.size());
  if (call.tensors != wanted_tensors || call.scalars != wanted_scalars)
    throw std::invalid_argument(format("%s: expected %d tensors and %d scalars, got %d and %d", kernel, wanted_tensors,
                                       wanted_scalars, call.tensors, call.scalars));
  for (int i = 0; i < call.tensors; ++i)
    if (!call.tensor[i]) throw std::invalid_argument(format("%s: %s is absent", kernel, names_[i]));
}

void Arguments::dtype(int i, DType wanted) const {
  if (call_[i].dtype != wanted) refuse(i, dtype_name(wanted));
}

void Arguments::floating(int i) const {
  if (call_[i].dtype != DType::f32 && call_[i].dtype != DType::f64 && call_[i].dtype != DType::bf16) refuse(i, "f32 or f64");
}

void Arguments::mask(int i) const {
  if (call_[i].dtype != DType::u8 && call_[i].dtype != DType::b8) refuse(i, "u8 or bool");
}

void Arguments::rank(int i, int wanted) const {
  if (call_[i].rank != wanted) refuse(i, "rank " + std::to_string(wanted));
}

void Arguments::same_dtype(int i, int j) const {
  if (call_[i].dtype != call_[j].dtype) refuse(i, format("%s as %s", dtype_name(call_[j].dtype), names_[j]));
}

static DType computed_in(DType dtype) { return dtype == DType::bf16 ? DType::f32 : dtype; }

void Arguments::arithmetic(int i, int j) const {
  const DType wanted = computed_in(call_[j].dtype);
  if (call_[i].dtype != wanted) refuse(i, format("%s as %s", dtype_name(wanted), names_[j]));
}

void Arguments::same_arithmetic(int i, int j) const {
  if (computed_in(call_[i].dtype) != computed_in(call_[j].dtype)) refuse(i, format("%s as %s", dtype_name(call_[j].dtype), names_[j]));
}

void Arguments::same_shape(int i, int j) const {
  const TensorView &a = call_[i], &b = call_[j];
  if (computed_in(a.dtype) != computed_in(b.dtype) || a.rank != b.rank || !std::equal(a.dim, a.dim + a.rank, b.dim))
    refuse(i, shape_text(b) + " as " + names_[j]);
}

void Arguments::like(int i, int j) const {
  if (!same_form(call_[i], call_[j])) refuse(i, shape_text(call_[j]) + " as " + names_[j]);
}

void Arguments::count(int i, int64_t wanted, const char* letters) const {
  if (call_[i].numel != wanted)
    refuse(i, format("%lld elements %s", static_cast<long long>(wanted), letters));
}

void Arguments::shape(int i, std::initializer_list<int64_t> wanted) const {
  const TensorView& t = call_[i];
  if (t.rank == static_cast<int>(wanted.size()) && std::equal(wanted.begin(), wanted.end(), t.dim)) return;
  std::string text;
  for (int64_t length : wanted) text += (text.empty() ? "" : ", ") + std::to_string(length);
  refuse(i, "shape (" + text + ")");
}

int64_t Arguments::rows(int i) const {
  int64_t rows = 1;
  for (int d = 0; d + 1 < call_[i].rank; ++d) rows *= call_[i].dim[d];
  return rows;
}

int64_t Arguments::whole(int k, int64_t low, int64_t high) const {
  const double value = call_.scalar[k];
  if (std::floor(value) != value || value < static_cast<double>(low) || value > static_cast<double>(high))
    throw std::invalid_argument(format("%s: %s expected a whole number in [%lld, %lld], got %g", kernel_, scalar_names_[k],
                                       static_cast<long long>(low), static_cast<long long>(high), value));
  return static_cast<int64_t>(value);
}

void Arguments::refuse(int i, const std::string& expected) const {
  throw std::invalid_argument(
      format("%s: %s expected %s, got %s", kernel_, names_[i], expected.c_str(), shape_text(call_[i]).c_str()));
}

std::string shape_text(const TensorView& t) {
  std::string text = std::string(dtype_name(t.dtype)) + " (";
  for (int i = 0; i < t.rank; ++i) text += (i ? ", " : "") + std::to_string(t.dim[i]);
  return text + ")";
}

void check_ids(const char* kernel, const char* operand, const int32_t* ids, int64_t n, int64_t count, bool ignore_label) {
  for (int64_t i = 0; i < n; ++i)
    if ((ids[i] < 0 || ids[i] >= count) && !(ignore_label && ids[i] == kIgnoredLabel))
      throw std::out_of_range(format("%s: %s[%lld] expected an id in [0, %lld)%s, got %d", kernel, operand,
                                     static_cast<long long>(i), static_cast<long long>(count),
                                     ignore_label ? " or -100" : "", ids[i]));
}
