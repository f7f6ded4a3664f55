// A tensor as kernels see it: borrowed memory, dtype, shape, row-major and dense. Never owns, never allocates.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

/// Same order as `dtypes` in runtime/tensor/tensor.ts; the number travels through the binding.
enum class DType : uint8_t { f64 = 0, f32 = 1, bf16 = 2, f16 = 3, i64 = 4, i32 = 5, i8 = 6, u8 = 7, b8 = 8 };
constexpr int kDTypes = 9;
constexpr int kMaxRank = 6;

constexpr size_t dtype_bytes(DType dtype) {
  constexpr size_t bytes[kDTypes] = {8, 4, 2, 2, 8, 4, 1, 1, 1};
  return bytes[static_cast<int>(dtype)];
}

constexpr const char* dtype_name(DType dtype) {
  constexpr const char* names[kDTypes] = {"f64", "f32", "bf16", "f16", "i64", "i32", "i8", "u8", "bool"};
  return names[static_cast<int>(dtype)];
}

struct TensorView {
  void* data = nullptr;  // null = operand absent; a tensor without elements still has an address
  DType dtype = DType::f32;
  int32_t rank = 0;
  int64_t dim[kMaxRank] = {};
  int64_t numel = 0;

  template <class T> T* as() const { return static_cast<T*>(data); }
  /// Length of the last dimension; 1 for a scalar.
  int64_t cols() const { return rank == 0 ? 1 : dim[rank - 1]; }
  /// Product of all dimensions but the last; 0 when the last one is 0.
  int64_t rows() const { return cols() == 0 ? 0 : numel / cols(); }
  size_t bytes() const { return static_cast<size_t>(numel) * dtype_bytes(dtype); }
  explicit operator bool() const { return data != nullptr; }
};

/// The same dtype and shape.
inline bool same_form(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.rank == b.rank && std::equal(a.dim, a.dim + a.rank, b.dim);
}
