// Work cut into tiles. Promises:
// PT-1: `body(tile)` runs exactly once for every tile in [0, tiles), each on one thread; order and thread are unspecified.
// PT-2: the cut is the caller's and must depend on shapes alone, so that any number of threads gives the same bits.
// PT-3: an exception thrown by a body reaches the caller (the one of the lowest tile, so that messages are repeatable).
#pragma once
#include <cstdint>
#include <exception>

template <class F> void parallel_tiles(int64_t tiles, int threads, F&& body /* (int64_t tile) */) {
  if (tiles <= 0) return;
  if (threads <= 1 || tiles == 1) {
    for (int64_t tile = 0; tile < tiles; ++tile) body(tile);
    return;
  }
  std::exception_ptr failure;
  int64_t failed_tile = tiles;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t tile = 0; tile < tiles; ++tile) {
    try {
      body(tile);
    } catch (...) {
#pragma omp critical(octavo_parallel_failure)
      if (tile < failed_tile) failure = std::current_exception(), failed_tile = tile;
    }
  }
  if (failure) std::rethrow_exception(failure);
}

/// Number of tiles of `size` elements that cover `count`.
constexpr int64_t tile_count(int64_t count, int64_t size) { return (count + size - 1) / size; }
