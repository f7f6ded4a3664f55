#include "rearrange.h"

#include <cstring>
#include <stdexcept>

#include "arguments.h"
#include "tiles.h"

namespace {
int64_t product(const TensorView& t, int from, int to) {
  int64_t n = 1;
  for (int d = from; d < to; ++d) n *= t.dim[d];
  return n;
}

/// `count` runs of `bytes` each, `x_stride` and `y_stride` bytes apart.
void copy_runs(const char* x, int64_t x_stride, char* y, int64_t y_stride, int64_t bytes, int64_t count, int threads) {
  if (bytes == 0) return;
  row_tiles<kLightTile>(count, tile_count(bytes, 4), threads, [&](int64_t first, int64_t last) {
    for (int64_t run = first; run < last; ++run) std::memcpy(y + run * y_stride, x + run * x_stride, static_cast<size_t>(bytes));
  });
}

/// Bytes of one step along `axis`: everything inside it.
int64_t step_bytes(const TensorView& t, int axis) {
  return product(t, axis + 1, t.rank) * static_cast<int64_t>(dtype_bytes(t.dtype));
}

/// What a permutation moves as one block: dimensions that stay neighbours are merged, so (B, N, H, K) -> (B, H, N, K)
/// is three loops over runs of K.
struct Moves {
  int rank = 0;
  int64_t length[kMaxRank], stride[kMaxRank];  // of y's dimensions; strides into x, in elements
};

Moves moves_of(const TensorView& x, const TensorView& y, const int* order) {
  Moves moves;
  for (int d = 0; d < y.rank; ++d) {
    if (y.dim[d] == 1) continue;
    const int64_t stride = product(x, order[d] + 1, x.rank);
    const int k = moves.rank - 1;
    if (k >= 0 && moves.stride[k] == stride * y.dim[d]) moves.length[k] *= y.dim[d], moves.stride[k] = stride;
    else moves.length[moves.rank] = y.dim[d], moves.stride[moves.rank] = stride, ++moves.rank;
  }
  if (moves.rank == 0) moves.rank = 1, moves.length[0] = moves.stride[0] = 1;
  return moves;
}

template <class T> void permute_elements(const T* x, T* y, const Moves& moves, int64_t numel, int threads) {
  const int inner = moves.rank - 1;
  const int64_t length = moves.length[inner], stride = moves.stride[inner];
  row_tiles(numel / length, length, threads, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      int64_t rest = row, from = 0;
      for (int d = inner - 1; d >= 0; --d) from += rest % moves.length[d] * moves.stride[d], rest /= moves.length[d];
      T* out = y + row * length;
      if (stride == 1) std::memcpy(out, x + from, static_cast<size_t>(length) * sizeof(T));
      else for (int64_t i = 0; i < length; ++i) out[i] = x[from + i * stride];
    }
  });
}

bool plain(const Arguments& a, bool reference) {
  return a[0].dtype == DType::f64 || (reference && a[0].dtype == DType::f32);
}

template <class F> void with_reference_type(const Arguments& a, F f) {
  if (a[0].dtype == DType::f64) f(double{});
  else f(float{});
}

/// y must be x but for its length along the axis; returns the axis.
int check_slice(const Arguments& a, int whole, int part) {
  const TensorView &x = a[whole], &y = a[part];
  a.same_dtype(1, 0), a.rank(part, x.rank);
  const int axis = static_cast<int>(a.whole(0, 0, x.rank - 1));
  const int64_t start = a.whole(1, 0, x.dim[axis]);
  for (int d = 0; d < x.rank; ++d)
    if (d == axis ? start + y.dim[d] > x.dim[d] : y.dim[d] != x.dim[d])
      throw std::invalid_argument(format("%s: %s does not fit in %s along dimension %d from %lld", a.kernel(), shape_text(y).c_str(),
                                         shape_text(x).c_str(), axis, static_cast<long long>(start)));
  return axis;
}
}  // namespace

void slice_forward(const TensorView& x, const TensorView& y, int axis, int64_t start, int threads) {
  const int64_t step = step_bytes(x, axis);
  copy_runs(x.as<const char>() + start * step, x.dim[axis] * step, y.as<char>(), y.dim[axis] * step, y.dim[axis] * step,
            product(x, 0, axis), threads);
}

void slice_backward(const TensorView& dy, const TensorView& dx, int axis, int64_t start, int threads) {
  const int64_t step = step_bytes(dx, axis), before = start * step, middle = dy.dim[axis] * step, run = dx.dim[axis] * step;
  row_tiles<kLightTile>(product(dx, 0, axis), tile_count(run, 4), threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      char* out = dx.as<char>() + r * run;
      std::memset(out, 0, static_cast<size_t>(before));
      std::memcpy(out + before, dy.as<const char>() + r * middle, static_cast<size_t>(middle));
      std::memset(out + before + middle, 0, static_cast<size_t>(run - before - middle));
    }
  });
}

void concat(const TensorView* x, int n, const TensorView& y, int axis, int threads) {
  const int64_t step = step_bytes(y, axis), outer = product(y, 0, axis);
  int64_t start = 0;
  for (int part = 0; part < n; ++part) {
    const int64_t bytes = x[part].dim[axis] * step;
    copy_runs(x[part].as<const char>(), bytes, y.as<char>() + start * step, y.dim[axis] * step, bytes, outer, threads);
    start += x[part].dim[axis];
  }
}

void write_rows(const TensorView& x, int64_t at, const TensorView& y, int threads) {
  const int64_t step = step_bytes(y, 1), bytes = x.dim[1] * step;
  copy_runs(x.as<const char>(), bytes, y.as<char>() + at * step, y.dim[1] * step, bytes, x.dim[0], threads);
}

void permute(const TensorView& x, const TensorView& y, const int* order, int threads) {
  if (y.numel == 0) return;
  const Moves moves = moves_of(x, y, order);
  switch (dtype_bytes(x.dtype)) {
    case 1: return permute_elements(x.as<const uint8_t>(), y.as<uint8_t>(), moves, y.numel, threads);
    case 2: return permute_elements(x.as<const uint16_t>(), y.as<uint16_t>(), moves, y.numel, threads);
    case 4: return permute_elements(x.as<const uint32_t>(), y.as<uint32_t>(), moves, y.numel, threads);
    default: return permute_elements(x.as<const uint64_t>(), y.as<uint64_t>(), moves, y.numel, threads);
  }
}

OCTAVO_KERNEL_BF16(slice_forward, OwnBf16::all()) {
  const Arguments a(call, "slice_forward", {"x", "y"}, {"axis", "start"});
  const int axis = check_slice(a, 0, 1);
  const int64_t start = static_cast<int64_t>(a.scalar(1));
  if (!plain(a, call.reference)) return slice_forward(a[0], a[1], axis, start, a.threads());
  with_reference_type(a, [&]<class T>(T) { slice_forward_reference<T>(a[0], a[1], axis, start); });
}

OCTAVO_KERNEL_BF16(slice_backward, OwnBf16::all()) {
  const Arguments a(call, "slice_backward", {"dy", "dx"}, {"axis", "start"});
  const int axis = check_slice(a, 1, 0);
  const int64_t start = static_cast<int64_t>(a.scalar(1));
  if (!plain(a, call.reference)) return slice_backward(a[0], a[1], axis, start, a.threads());
  with_reference_type(a, [&]<class T>(T) { slice_backward_reference<T>(a[0], a[1], axis, start); });
}

OCTAVO_KERNEL_BF16(concat, OwnBf16::all()) {
  if (call.tensors < 2 || call.tensors > 9)
    throw std::invalid_argument(format("concat: expected 1 to 8 inputs and y, got %d tensors", call.tensors));
  std::vector<const char*> names{"x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8"};
  const int n = call.tensors - 1;
  names.resize(static_cast<size_t>(n)), names.push_back("y");
  const Arguments a(call, "concat", names, {"axis"});
  const TensorView& y = a[n];
  const int axis = static_cast<int>(a.whole(0, 0, y.rank - 1));
  int64_t total = 0;
  for (int part = 0; part < n; ++part) {
    a.same_dtype(part, n), a.rank(part, y.rank);
    total += a[part].dim[axis];
    for (int d = 0; d < y.rank; ++d)
      if (d != axis && a[part].dim[d] != y.dim[d])
        throw std::invalid_argument(format("concat: %s expected the lengths of y %s beside dimension %d, got %s", names[part],
                                           shape_text(y).c_str(), axis, shape_text(a[part]).c_str()));
  }
  if (total != y.dim[axis])
    throw std::invalid_argument(format("concat: y expected a length of %lld along dimension %d, got %s",
                                       static_cast<long long>(total), axis, shape_text(y).c_str()));
  if (!plain(a, call.reference)) return concat(call.tensor, n, y, axis, a.threads());
  with_reference_type(a, [&]<class T>(T) { concat_reference<T>(call.tensor, n, y, axis); });
}

OCTAVO_KERNEL_BF16(permute, OwnBf16::all()) {
  std::vector<const char*> names{"p0", "p1", "p2", "p3", "p4", "p5"};
  if (call.tensors < 1 || call.scalars != call.tensor[0].rank)
    throw std::invalid_argument(format("permute: expected one scalar per dimension of x, got %d", call.scalars));
  names.resize(static_cast<size_t>(call.scalars));
  const Arguments a(call, "permute", {"x", "y"}, names);
  a.same_dtype(1, 0), a.rank(1, a[0].rank);
  int order[kMaxRank];
  bool seen[kMaxRank] = {};
  for (int d = 0; d < a[0].rank; ++d) {
    order[d] = static_cast<int>(a.whole(d, 0, a[0].rank - 1));
    if (seen[order[d]]) throw std::invalid_argument(format("permute: dimension %d appears twice in the order", order[d]));
    seen[order[d]] = true;
    if (a[1].dim[d] != a[0].dim[order[d]])
      throw std::invalid_argument(format("permute: y expected x %s with dimension %d at %d, got %s", shape_text(a[0]).c_str(),
                                         order[d], d, shape_text(a[1]).c_str()));
  }
  if (!plain(a, call.reference)) return permute(a[0], a[1], order, a.threads());
  with_reference_type(a, [&]<class T>(T) { permute_reference<T>(a[0], a[1], order); });
}

OCTAVO_KERNEL_BF16(write_rows, OwnBf16::all()) {
  const Arguments a(call, "write_rows", {"x", "at", "y"});
  const TensorView &x = a[0], &y = a[2];
  a.same_dtype(2, 0), a.rank(2, x.rank), a.dtype(1, DType::i32), a.count(1, 1, "(1)");
  const int64_t at = *a.data<const int32_t>(1);
  bool fits = x.rank >= 2 && at >= 0 && at + x.dim[1] <= y.dim[1];
  for (int d = 0; d < x.rank; ++d) fits = fits && (d == 1 || x.dim[d] == y.dim[d]);
  if (!fits) throw std::invalid_argument(format("write_rows: %s does not fit in %s along dimension 1 from %lld", shape_text(x).c_str(), shape_text(y).c_str(), static_cast<long long>(at)));
  if (!plain(a, call.reference)) return write_rows(x, at, y, a.threads());
  with_reference_type(a, [&]<class T>(T) { write_rows_reference<T>(x, at, y); });
}
