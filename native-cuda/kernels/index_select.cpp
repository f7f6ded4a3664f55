#include "index_select.h"

#include <cstring>
#include <stdexcept>

#include "arguments.h"
#include "gather_rows.h"
#include "tiles.h"

template <class T>
void index_select_forward(const T* x, const int32_t* index, T* y, int64_t outer, int64_t length, int64_t n, int64_t inner, int threads) {
  row_tiles<kLightTile>(outer * n, inner, threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const T* from = x + (r / n * length + index[r % n]) * inner;
      if (inner == 1) y[r] = *from;
      else std::memcpy(y + r * inner, from, static_cast<size_t>(inner) * sizeof(T));
    }
  });
}

// A slab [o] of dx belongs to one thread; a single slab is cut by rows, as gather_rows does.
void index_select_backward(const Floats& dy, const int32_t* index, float* dx, int64_t outer, int64_t length, int64_t n, int64_t inner, int threads) {
  if (outer == 1) return gather_rows_backward(dy, index, dx, n, length, inner, threads);
  row_tiles<kLightTile>(outer, (length + n) * inner, threads, [&](int64_t first, int64_t last) {
    std::fill(dx + first * length * inner, dx + last * length * inner, 0.0f);
    for (int64_t o = first; o < last; ++o)
      for (int64_t i = 0; i < n; ++i) {
        const float* from = dy.read<0>((o * n + i) * inner, inner);
        float* to = dx + (o * length + index[i]) * inner;
        for (int64_t c = 0; c < inner; ++c) to[c] += from[c];
      }
  });
}

namespace {
struct Slabs {
  int64_t outer = 1, length, n, inner = 1;
};

/// `whole` has L slices along the axis, `chosen` has N; everything else is equal.
Slabs slabs_of(const Arguments& a, int whole, int chosen) {
  const TensorView &x = a[whole], &y = a[chosen];
  a.floating(0), a.dtype(1, DType::i32), a.same_arithmetic(2, 0), a.rank(chosen, x.rank);
  const int axis = static_cast<int>(a.whole(0, 0, x.rank - 1));
  Slabs s{1, x.dim[axis], a[1].numel, 1};
  for (int d = 0; d < x.rank; ++d) {
    if (y.dim[d] != (d == axis ? s.n : x.dim[d]))
      throw std::invalid_argument(format("%s: %s expected %s %s with %lld slices in dimension %d, got %s", a.kernel(), a.name(chosen).c_str(),
                                         a.name(whole).c_str(), shape_text(x).c_str(), static_cast<long long>(s.n), axis, shape_text(y).c_str()));
    if (d < axis) s.outer *= x.dim[d];
    if (d > axis) s.inner *= x.dim[d];
  }
  check_ids(a.kernel(), "index", a.data<const int32_t>(1), s.n, s.length, false);
  return s;
}
}  // namespace

OCTAVO_KERNEL_BF16(index_select_forward, OwnBf16::together(0, 2)) {
  const Arguments a(call, "index_select_forward", {"x", "index", "y"}, {"axis"});
  const auto [outer, length, n, inner] = slabs_of(a, 0, 2);
  if (a[2].numel == 0) return;
  const auto* index = a.data<const int32_t>(1);
  if (a[0].dtype == DType::f64) return index_select_forward_reference(a.data<const double>(0), index, a.data<double>(2), outer, length, n, inner);
  if (call.reference) return index_select_forward_reference(a.data<const float>(0), index, a.data<float>(2), outer, length, n, inner);
  if (a[0].dtype == DType::bf16) return index_select_forward(a.data<const Bf16>(0), index, a.data<Bf16>(2), outer, length, n, inner, a.threads());
  index_select_forward(a.data<const float>(0), index, a.data<float>(2), outer, length, n, inner, a.threads());
}

OCTAVO_KERNEL_BF16(index_select_backward, OwnBf16::operands(0)) {
  const Arguments a(call, "index_select_backward", {"dy", "index", "dx"}, {"axis"});
  const auto [outer, length, n, inner] = slabs_of(a, 2, 0);
  const auto* index = a.data<const int32_t>(1);
  if (a[0].dtype == DType::f64) return index_select_backward_reference(a.data<const double>(0), index, a.data<double>(2), outer, length, n, inner);
  if (call.reference) return index_select_backward_reference(a.data<const float>(0), index, a.data<float>(2), outer, length, n, inner);
  index_select_backward(a.floats(0), index, a.data<float>(2), outer, length, n, inner, a.threads());
}
