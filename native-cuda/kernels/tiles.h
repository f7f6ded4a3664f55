// How the kernels of this folder cut their work: tiles by shape alone, never by the number of threads.
// TL-1: a tile of elements or rows belongs to one thread, and nothing outside it depends on its result.
// TL-2: a sum over many rows is cut in at most 64 chunks of rows; a chunk adds 128 rows at a time in f32 and those in f64,
//       in row order; the chunks are added in index order. Any number of threads gives the same bits.
#pragma once
#include <algorithm>
#include <vector>

#include "../common/clones.h"
#include "../common/parallel.h"

// Elements per tile at most: 20 to 60 microseconds of work. Less is not shared out: handing it to a thread that spins costs a few
// microseconds, to one that other processes keep from running a thousand times that.
constexpr int64_t kTileElements = 32768;  // arithmetic with exp and the like, 0.5 to 2 ns an element
constexpr int64_t kLightTile = 131072;    // copies, additions, normalisations: 0.1 to 0.3 ns an element

/// The length of the tiles of `n`, at most `most`, a multiple of `grain`: as many as 1, 2 and 4 threads share evenly, all of about the same
/// length. (With tiles of `most` a little more than one of them, 257 tokens of 256, would be one thread's work.)
constexpr int64_t even_tile(int64_t n, int64_t most, int64_t grain) {
  if (n <= most) return std::max<int64_t>(1, n);
  return tile_count(tile_count(n, tile_count(tile_count(n, most), 4) * 4), grain) * grain;
}

/// body(begin, end) over [0, n).
template <int64_t kTile = kTileElements, class F> void element_tiles(int64_t n, int threads, F&& body) {
  const int64_t size = even_tile(n, kTile, 64);
  parallel_tiles(tile_count(n, size), threads, [&](int64_t tile) { body(tile * size, std::min(n, (tile + 1) * size)); });
}

/// Rows of a tile, at least one.
template <int64_t kTile> constexpr int64_t rows_per_tile(int64_t rows, int64_t cols) {
  return even_tile(rows, std::max<int64_t>(1, kTile / std::max<int64_t>(1, cols)), 1);
}

/// body(first, last) over [0, rows), about a tile of elements at a time.
template <int64_t kTile = kTileElements, class F> void row_tiles(int64_t rows, int64_t cols, int threads, F&& body) {
  const int64_t per_tile = rows_per_tile<kTile>(rows, cols);
  parallel_tiles(tile_count(rows, per_tile), threads, [&](int64_t tile) {
    body(tile * per_tile, std::min(rows, (tile + 1) * per_tile));
  });
}

/// The sum over [0, n) of what body(begin, end) returns, one f64 partial per tile, added in index order.
template <int64_t kTile = kTileElements, class F> double sum_tiles(int64_t n, int threads, F&& body) {
  const int64_t size = even_tile(n, kTile, 64);
  std::vector<double> partial(static_cast<size_t>(tile_count(n, size)));
  element_tiles<kTile>(n, threads, [&](int64_t begin, int64_t end) { partial[begin / size] = body(begin, end); });
  double total = 0;
  for (double p : partial) total += p;
  return total;
}

/// out[c] = sum over rows, where body(first, last, line) adds rows [first, last) into the f32 line[0, cols).
template <class F> void column_sums(int64_t rows, int64_t cols, int threads, float* out, F&& body) {
  constexpr int64_t kBlockRows = 128;
  const int64_t per_chunk = even_tile(rows, std::max(kLightTile / std::max<int64_t>(1, cols), tile_count(rows, 64)), 8);
  const int64_t chunks = tile_count(rows, per_chunk);
  std::vector<double> sums(static_cast<size_t>(chunks * cols), 0.0);
  parallel_tiles(chunks, threads, [&](int64_t chunk) {
    double* sum = sums.data() + chunk * cols;
    std::vector<float> line(static_cast<size_t>(cols));
    const int64_t end = std::min(rows, (chunk + 1) * per_chunk);
    for (int64_t first = chunk * per_chunk; first < end; first += kBlockRows) {
      std::fill(line.begin(), line.end(), 0.0f);
      body(first, std::min(end, first + kBlockRows), line.data());
      for (int64_t c = 0; c < cols; ++c) sum[c] += line[c];
    }
  });
  for (int64_t c = 0; c < cols; ++c) {
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += sums[chunk * cols + c];
    out[c] = static_cast<float>(total);
  }
}
