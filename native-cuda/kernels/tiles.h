// How the kernels of this folder cut their work: tiles by shape alone, never by the number of threads.
// TL-1: a tile of elements or rows belongs to one thread, and nothing outside it depends on its result.
// TL-2: a sum over many rows is cut in at most 64 chunks of rows; each chunk adds into a line of its own in row order, and
//       the lines are added in index order, in f64. Any number of threads gives the same bits.
#pragma once
#include <algorithm>
#include <vector>

#include "../common/parallel.h"

/// Vector code for the machine at hand; the plain one everywhere else. For free functions that hold a hot loop.
#if defined(__x86_64__) && defined(__gnu_linux__)
#define OCTAVO_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define OCTAVO_CLONES
#endif

constexpr int64_t kTileElements = 16384;  // 64 KiB of f32: a few microseconds of work, well above the cost of a task

/// body(begin, end) over [0, n).
template <class F> void element_tiles(int64_t n, int threads, F&& body) {
  parallel_tiles(tile_count(n, kTileElements), threads, [&](int64_t tile) {
    const int64_t begin = tile * kTileElements;
    body(begin, std::min(n, begin + kTileElements));
  });
}

/// body(first, last) over [0, rows), about kTileElements elements at a time.
template <class F> void row_tiles(int64_t rows, int64_t cols, int threads, F&& body) {
  const int64_t per_tile = std::max<int64_t>(1, kTileElements / std::max<int64_t>(1, cols));
  parallel_tiles(tile_count(rows, per_tile), threads, [&](int64_t tile) {
    const int64_t first = tile * per_tile;
    body(first, std::min(rows, first + per_tile));
  });
}

/// total = the sum over [0, n) of what body(begin, end) returns, one f64 partial per tile, added in index order.
template <class F> double sum_tiles(int64_t n, int threads, F&& body) {
  std::vector<double> partial(static_cast<size_t>(tile_count(n, kTileElements)));
  element_tiles(n, threads, [&](int64_t begin, int64_t end) { partial[begin / kTileElements] = body(begin, end); });
  double total = 0;
  for (double p : partial) total += p;
  return total;
}

/// out[c] = sum over rows, where body(first, last, line) adds rows [first, last) into line[0, cols) (zeroed before).
template <class F> void column_sums(int64_t rows, int64_t cols, int threads, float* out, F&& body) {
  const int64_t per_chunk = std::max<int64_t>(16, tile_count(rows, 64));
  const int64_t chunks = tile_count(rows, per_chunk);
  std::vector<float> lines(static_cast<size_t>(chunks * cols), 0.0f);
  parallel_tiles(chunks, threads, [&](int64_t chunk) {
    body(chunk * per_chunk, std::min(rows, (chunk + 1) * per_chunk), lines.data() + chunk * cols);
  });
  for (int64_t c = 0; c < cols; ++c) {
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += lines[chunk * cols + c];
    out[c] = static_cast<float>(total);
  }
}
