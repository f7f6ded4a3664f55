#include "creation.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "../common/bf16.h"
#include "arguments.h"
#include "tiles.h"

template <class T> void fill(T* y, T value, int64_t n, int threads) {
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) { std::fill(y + begin, y + end, value); });
}

void copy_bytes(const void* x, void* y, int64_t bytes, int threads) {
  if (x == y) return;
  const int64_t size = even_tile(bytes, 4 * kLightTile, 64);
  parallel_tiles(tile_count(bytes, size), threads, [&](int64_t tile) {
    const int64_t begin = tile * size;
    std::memcpy(static_cast<char*>(y) + begin, static_cast<const char*>(x) + begin,
                static_cast<size_t>(std::min(size, bytes - begin)));
  });
}

namespace {
template <class From, class To> void cast_piece(const From* x, To* y, int64_t n) { cast_reference(x, y, n); }
void cast_piece(const Bf16* x, float* y, int64_t n) { widen(x, y, n); }
void cast_piece(const float* x, Bf16* y, int64_t n) { narrow(x, y, n); }
}  // namespace

template <class From, class To> void cast(const From* x, To* y, int64_t n, int threads) {
  constexpr bool from_narrow = std::is_same_v<From, Bf16>, to_narrow = std::is_same_v<To, Bf16>;
  constexpr bool direct = (!from_narrow && !to_narrow) || std::is_same_v<From, float> || std::is_same_v<To, float>;
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) {
    if constexpr (from_narrow && to_narrow) {
      std::memmove(y + begin, x + begin, static_cast<size_t>(end - begin) * sizeof(Bf16));
    } else if constexpr (direct) {
      cast_piece(x + begin, y + begin, end - begin);
    } else {
      constexpr int64_t kPiece = 1024;
      float through[kPiece];
      for (int64_t at = begin; at < end; at += kPiece) {
        const int64_t count = std::min(kPiece, end - at);
        cast_piece(x + at, through, count);
        cast_piece(through, y + at, count);
      }
    }
  });
}

namespace {

void check_fits(DType dtype, double value) {
  double low = -std::numeric_limits<double>::infinity(), high = -low;
  if (dtype == DType::i64) low = -0x1p63, high = 0x1p63 - 1024;  // the largest double below 2^63
  if (dtype == DType::i32) low = -2147483648.0, high = 2147483647.0;
  if (dtype == DType::i8) low = -128, high = 127;
  if (dtype == DType::u8) low = 0, high = 255;
  if (std::isfinite(low) && !(value >= low && value <= high))
    throw std::invalid_argument(format("fill: value expected within %g..%g for y of %s, got %g", low, high, dtype_name(dtype), value));
}

template <class From> void cast_to(const Arguments& a, bool reference) {
  const auto go = [&](auto zero) {
    using To = decltype(zero);
    if constexpr (!std::is_same_v<From, Bf16> && !std::is_same_v<To, Bf16>)
      if (reference) return cast_reference(a.data<const From>(0), a.data<To>(1), a[0].numel);
    cast(a.data<const From>(0), a.data<To>(1), a[0].numel, a.threads());
  };
  switch (a[1].dtype) {
    case DType::f32: return go(float{});
    case DType::f64: return go(double{});
    case DType::bf16: return go(Bf16{});
    case DType::i32: return go(int32_t{});
    case DType::u8: return go(uint8_t{});
    default: throw std::invalid_argument(format("cast: y expected f32, f64, bf16, i32 or u8, got %s", dtype_name(a[1].dtype)));
  }
}
}  // namespace

OCTAVO_KERNEL_BF16(fill, OwnBf16::all()) {
  const Arguments a(call, "fill", {"y"}, {"value"});
  check_fits(a[0].dtype, a.scalar(0));
  const double value = a.scalar(0);
  const float single = static_cast<float>(value);
  const int64_t n = a[0].numel;
  const int threads = a.threads();
  switch (a[0].dtype) {
    case DType::f64: return fill_reference(a.data<double>(0), value, n);
    case DType::f32:
      if (call.reference) return fill_reference(a.data<float>(0), single, n);
      return fill(a.data<float>(0), single, n, threads);
    case DType::bf16: return fill(a.data<Bf16>(0), narrow(single), n, threads);
    case DType::f16: return fill(a.data<_Float16>(0), static_cast<_Float16>(single), n, threads);
    case DType::i64: return fill(a.data<int64_t>(0), static_cast<int64_t>(value), n, threads);
    case DType::i32: return fill(a.data<int32_t>(0), static_cast<int32_t>(value), n, threads);
    case DType::i8: return fill(a.data<int8_t>(0), static_cast<int8_t>(value), n, threads);
    case DType::u8: return fill(a.data<uint8_t>(0), static_cast<uint8_t>(value), n, threads);
    case DType::b8: return fill(a.data<uint8_t>(0), static_cast<uint8_t>(value != 0), n, threads);
  }
}

OCTAVO_KERNEL_BF16(copy, OwnBf16::all()) {
  const Arguments a(call, "copy", {"x", "y"});
  a.same_dtype(1, 0), a.count(1, a[0].numel, "as x");
  if (call.reference && a[0].dtype == DType::f32) return copy_reference(a.data<const float>(0), a.data<float>(1), a[0].numel);
  if (call.reference && a[0].dtype == DType::f64) return copy_reference(a.data<const double>(0), a.data<double>(1), a[0].numel);
  copy_bytes(a[0].data, a[1].data, static_cast<int64_t>(a[0].bytes()), a.threads());
}

OCTAVO_KERNEL_BF16(cast, OwnBf16::any()) {
  const Arguments a(call, "cast", {"x", "y"});
  a.count(1, a[0].numel, "as x");
  switch (a[0].dtype) {
    case DType::f32: return cast_to<float>(a, call.reference);
    case DType::f64: return cast_to<double>(a, call.reference);
    case DType::bf16: return cast_to<Bf16>(a, call.reference);
    case DType::i32: return cast_to<int32_t>(a, call.reference);
    case DType::u8: return cast_to<uint8_t>(a, call.reference);
    default: throw std::invalid_argument(format("cast: x expected f32, f64, bf16, i32 or u8, got %s", dtype_name(a[0].dtype)));
  }
}
