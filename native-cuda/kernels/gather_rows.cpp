#include "gather_rows.h"

#include "arguments.h"
#include "tiles.h"

void gather_rows_forward(const Floats& x, const int32_t* index, const Floats& y, int64_t n, int64_t cols, int threads) {
  row_tiles<kLightTile>(n, cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) y.copy(i * cols, x, index[i] * cols, cols);
  });
}

OCTAVO_CLONES static void add_row(const float* x, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

void gather_rows_backward(const Floats& dy, const int32_t* index, float* dx, int64_t n, int64_t rows, int64_t cols, int threads) {
  // A tile owns a range of rows of dx and reads the whole index: no two tiles write one row, and every row is added to in
  // order of n. At most 32 tiles, so that reading the index again stays cheap beside the rows.
  const int64_t per_tile = even_tile(rows, std::max(kLightTile / std::max<int64_t>(1, cols), tile_count(rows, 32)), 1);
  parallel_tiles(tile_count(rows, per_tile), threads, [&](int64_t tile) {
    const int64_t first = tile * per_tile, last = std::min(rows, first + per_tile);
    std::fill(dx + first * cols, dx + last * cols, 0.0f);
    for (int64_t i = 0; i < n; ++i)
      if (index[i] >= first && index[i] < last) add_row(dy.read<0>(i * cols, cols), dx + index[i] * cols, cols);
  });
}

OCTAVO_KERNEL_BF16(gather_rows_forward, OwnBf16::operands(0, 2)) {
  const Arguments a(call, "gather_rows_forward", {"x", "index", "y"});
  const int64_t rows = a.rows(0), cols = a.cols(0), n = a[1].numel;
  a.floating(0), a.dtype(1, DType::i32), a.same_arithmetic(2, 0), a.count(2, n * cols, "(N, C)");
  const auto* index = a.data<const int32_t>(1);
  check_ids(a.kernel(), "index", index, n, rows, false);
  a.run([&]<class T>(T) { gather_rows_forward_reference(a.data<const T>(0), index, a.data<T>(2), n, cols); },
        [&] { gather_rows_forward(a.floats(0), index, a.floats(2), n, cols, a.threads()); });
}

OCTAVO_KERNEL_BF16(gather_rows_backward, OwnBf16::operands(0)) {
  const Arguments a(call, "gather_rows_backward", {"dy", "index", "dx"});
  const int64_t rows = a.rows(2), cols = a.cols(2), n = a[1].numel;
  a.floating(0), a.dtype(1, DType::i32), a.arithmetic(2, 0), a.count(0, n * cols, "(N, C)");
  const auto* index = a.data<const int32_t>(1);
  check_ids(a.kernel(), "index", index, n, rows, false);
  a.run([&]<class T>(T) { gather_rows_backward_reference(a.data<const T>(0), index, a.data<T>(2), n, rows, cols); },
        [&] { gather_rows_backward(a.floats(0), index, a.data<float>(2), n, rows, cols, a.threads()); });
}
