#include "pairwise_tree.h"

#include <cstring>
#include <vector>

#include "../common/bf16.h"
#include "../common/clones.h"

namespace {
constexpr int64_t kTile = 1024;

// y may be a or b: the pragma says that elements do not depend on each other.
#define TREE_ADD(T)                                                                     \
  OCTAVO_CLONES void add(const T* a, const T* b, T* y, int64_t n) {                     \
    _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];             \
  }
TREE_ADD(double)
TREE_ADD(float)
TREE_ADD(uint64_t)
TREE_ADD(uint32_t)
#undef TREE_ADD

/// The elements [at, at + n) of a leaf as T: where they lie, or widened into `buffer`.
template <class T> const T* leaf(const void* x, int64_t at, int64_t, T*) { return static_cast<const T*>(x) + at; }
const float* leaf(const Bf16* x, int64_t at, int64_t n, float* buffer) {
  widen(x + at, buffer, n);
  return buffer;
}

/// The sum of leaves [low, high), in `y` unless it is one leaf; scratch: a tile for each leaf.
template <class Leaf, class T> const T* sum(const void* const* x, int low, int high, int64_t at, int64_t n, T* y, T* scratch) {
  if (high - low == 1) return leaf(static_cast<const Leaf*>(x[low]), at, n, y);
  const int middle = low + (high - low + 1) / 2;
  const T* left = sum<Leaf>(x, low, middle, at, n, scratch + low * kTile, scratch);
  const T* right = sum<Leaf>(x, middle, high, at, n, scratch + middle * kTile, scratch);
  add(left, right, y, n);
  return y;
}

template <class T> void sum_all(const void* const* x, int count, T* y, int64_t n) {
  if (count == 2) return add(static_cast<const T*>(x[0]), static_cast<const T*>(x[1]), y, n);
  std::vector<T> scratch(static_cast<size_t>(count * kTile));
  for (int64_t at = 0; at < n; at += kTile) {
    const int64_t part = n - at < kTile ? n - at : kTile;
    T total[kTile];
    const T* found = sum<T>(x, 0, count, at, part, total, scratch.data());
    std::memcpy(y + at, found, static_cast<size_t>(part) * sizeof(T));
  }
}

void sum_bf16(const void* const* x, int count, Bf16* y, int64_t n) {
  std::vector<float> scratch(static_cast<size_t>(count * kTile));
  for (int64_t at = 0; at < n; at += kTile) {
    const int64_t part = n - at < kTile ? n - at : kTile;
    float total[kTile];
    narrow(sum<Bf16>(x, 0, count, at, part, total, scratch.data()), y + at, part);
  }
}
}  // namespace

bool tree_sums(DType dtype) {
  return dtype == DType::f64 || dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::i64 || dtype == DType::i32;
}

void tree_sum(DType dtype, const void* const* x, int count, void* y, int64_t n) {
  switch (dtype) {
    case DType::f64: return sum_all(x, count, static_cast<double*>(y), n);
    case DType::f32: return sum_all(x, count, static_cast<float*>(y), n);
    case DType::bf16: return sum_bf16(x, count, static_cast<Bf16*>(y), n);
    case DType::i64: return sum_all(x, count, static_cast<uint64_t*>(y), n);  // unsigned: overflow is defined
    case DType::i32: return sum_all(x, count, static_cast<uint32_t*>(y), n);
    default: return;
  }
}
