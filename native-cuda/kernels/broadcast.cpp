#include "broadcast.h"

#include <cstring>
#include <stdexcept>

#include "arguments.h"
#include "nest.h"
#include "tiles.h"

// ---- add, sub, mul, div ----
#define DEFINE(name, op)                                                                                                                               \
  OCTAVO_CLONES static void name##_run(const float* a, const float* b, float* y, int64_t n, int64_t sa, int64_t sb) {                                  \
    if (sa && sb) {                                                                                                                                    \
      _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = a[i] op b[i];                                                                         \
    } else if (sa) {                                                                                                                                   \
      const float q = *b;                                                                                                                              \
      _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = a[i] op q;                                                                            \
    } else {                                                                                                                                           \
      const float p = *a;                                                                                                                              \
      _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = p op b[i];                                                                            \
    }                                                                                                                                                  \
  }                                                                                                                                                    \
  void name(const TensorView& a_view, const TensorView& b_view, const TensorView& y_view, int threads) {                                               \
    const TensorView* operands[] = {&a_view, &b_view};                                                                                                 \
    const Floats a(a_view), b(b_view), y = Floats::output(y_view);                                                                                     \
    each_run(operands, y_view, threads, [&](const int64_t* at, const int64_t* step, int64_t to, int64_t n) {                                           \
      pieces(n, {a, b, y}, [&](int64_t from, int64_t count) {                                                                                          \
        const int64_t in_a = at[0] + from * step[0], in_b = at[1] + from * step[1];                                                                    \
        name##_run(a.read<0>(in_a, step[0] ? count : 1), b.read<1>(in_b, step[1] ? count : 1), y.write<2>(to + from, count), count, step[0], step[1]);\
      });                                                                                                                                              \
    });                                                                                                                                                \
  }                                                                                                                                                    \
  OCTAVO_KERNEL_BF16(name, OwnBf16::any()) {                                                                                                           \
    const Arguments a(call, #name, {"a", "b", "y"});                                                                                                   \
    check_broadcast(a);                                                                                                                                \
    a.run([&]<class T>(T) { name##_reference<T>(a[0], a[1], a[2]); }, [&] { name(a[0], a[1], a[2], a.threads()); });                                   \
  }

static void check_broadcast(const Arguments& a) {
  a.floating(0);
  for (int i : {1, 2}) a.same_arithmetic(i, 0);
  check_broadcast_shape(a, 2);
}

DEFINE(add, +)
DEFINE(sub, -)
DEFINE(mul, *)
DEFINE(div, /)

// ---- sum_to ----
namespace {
/// x as alternating groups of kept and summed dimensions: at most six, lengths of 1 left out.
struct Groups {
  int count = 0;
  int64_t length[kMaxRank];
  bool kept[kMaxRank];
};

Groups groups_of(const TensorView& x, const TensorView& y) {
  Groups groups;
  for (int d = 0; d < x.rank; ++d) {
    if (x.dim[d] == 1) continue;
    const int e = d - x.rank + y.rank;
    const bool kept = e >= 0 && y.dim[e] != 1;
    if (groups.count && groups.kept[groups.count - 1] == kept) groups.length[groups.count - 1] *= x.dim[d];
    else groups.length[groups.count] = x.dim[d], groups.kept[groups.count] = kept, ++groups.count;
  }
  return groups;
}

OCTAVO_CLONES double sum_run(const float* x, int64_t n) {
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < n; ++i) total += x[i];
  return total;
}

OCTAVO_CLONES void add_rows(const float* x, float* line, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, x += cols) {
#pragma omp simd
    for (int64_t c = 0; c < cols; ++c) line[c] += x[c];
  }
}

/// line += each of the rows [first, last) of x, row 0 of which begins at `at`.
void add_rows_of(const Floats& x, int64_t at, int64_t first, int64_t last, int64_t cols, float* line) {
  rows_in_pieces(first, last, cols, {x}, [&](int64_t from, int64_t to) {
    add_rows(x.read<0>(at + from * cols, (to - from) * cols), line, to - from, cols);
  });
}

/// Any pattern of groups: for every element of y, its summands in row-major order, in f64.
void sum_any(const Floats& x, float* y, const Groups& groups, int64_t outputs, int64_t summands, int threads) {
  row_tiles(outputs, summands, threads, [&](int64_t first, int64_t last) {
    for (int64_t out = first; out < last; ++out) {
      double total = 0;
      for (int64_t in = 0; in < summands; ++in) {
        int64_t kept = out, summed = in, offset = 0, stride = 1;
        for (int g = groups.count - 1; g >= 0; --g) {
          int64_t& rest = groups.kept[g] ? kept : summed;
          offset += rest % groups.length[g] * stride;
          rest /= groups.length[g], stride *= groups.length[g];
        }
        total += *x.read<0>(offset, 1);
      }
      y[out] = static_cast<float>(total);
    }
  });
}
}  // namespace

void sum_to(const TensorView& x_view, const TensorView& y_view, int threads) {
  const Floats x(x_view);
  float* y = y_view.as<float>();
  const Groups groups = groups_of(x_view, y_view);
  if (y_view.numel == 0) return;
  if (x_view.numel == 0) return std::fill_n(y, y_view.numel, 0.0f), void();
  const int64_t last = groups.count ? groups.length[groups.count - 1] : 1;
  if (groups.count == 0 || (groups.count == 1 && groups.kept[0])) {
    Floats(y).copy(0, x, 0, y_view.numel);
  } else if (groups.count == 1) {
    *y = static_cast<float>(sum_tiles<kLightTile>(last, threads, [&](int64_t begin, int64_t end) { return sum_run(x.read<0>(begin, end - begin), end - begin); }));
  } else if (groups.count == 2 && groups.kept[1]) {  // (summed, kept): a bias under many rows
    column_sums(groups.length[0], last, threads, y, [&](int64_t from, int64_t to, float* line) { add_rows_of(x, 0, from, to, last, line); });
  } else if (groups.count == 2) {  // (kept, summed): one number per row
    row_tiles<kLightTile>(y_view.numel, last, threads, [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) y[r] = static_cast<float>(sum_run(x.read<0>(r * last, last), last));
    });
  } else if (groups.count == 3 && groups.kept[0]) {  // (kept, summed, kept): the same as two groups, once per outer index
    const int64_t rows = groups.length[1];
    for (int64_t k = 0; k < groups.length[0]; ++k)
      column_sums(rows, last, threads, y + k * last, [&](int64_t from, int64_t to, float* line) { add_rows_of(x, k * rows * last, from, to, last, line); });
  } else {
    sum_any(x, y, groups, y_view.numel, x_view.numel / y_view.numel, threads);
  }
}

OCTAVO_KERNEL_BF16(sum_to, OwnBf16::operands(0)) {
  const Arguments a(call, "sum_to", {"x", "y"});
  a.floating(0), a.arithmetic(1, 0);
  const TensorView &x = a[0], &y = a[1];
  bool fits = y.rank <= x.rank;
  for (int e = 0; fits && e < y.rank; ++e) fits = y.dim[e] == 1 || y.dim[e] == x.dim[e + x.rank - y.rank];
  if (!fits)
    throw std::invalid_argument(format("sum_to: y expected a shape that broadcasts to x %s, got %s", shape_text(x).c_str(),
                                       shape_text(y).c_str()));
  a.run([&]<class T>(T) { sum_to_reference<T>(x, y); }, [&] { sum_to(x, y, a.threads()); });
}
