#include "nearest_code.h"

#include <limits>
#include <stdexcept>

#include "arguments.h"
#include "lanes.h"
#include "tiles.h"

namespace {
typedef int32_t CodeLanes __attribute__((vector_size(64)));
constexpr float kFar = std::numeric_limits<float>::infinity();
constexpr int64_t kTilePairs = 4 * kLightTile;  // (code, d) pairs a tile: a difference, a product and a sum in a register

/// Sixteen codes side by side: codebook (K, D) -> (ceil(K / 16), D, 16). Codes beyond K lie infinitely far away.
std::vector<float> side_by_side(const float* codebook, int64_t count, int64_t width) {
  std::vector<float> blocks(static_cast<size_t>(tile_count(count, kLanes) * kLanes * width), kFar);
  for (int64_t k = 0; k < count; ++k)
    for (int64_t d = 0; d < width; ++d)
      blocks[static_cast<size_t>((k / kLanes * width + d) * kLanes + k % kLanes)] = codebook[k * width + d];
  return blocks;
}

/// One code per lane: its lowest of equally near ones, since a later one must be nearer. Then the lanes are compared.
OCTAVO_CLONES void choose(const float* z, const float* blocks, int32_t* codes, int64_t first, int64_t last, int64_t count,
                          int64_t width) {
  for (int64_t r = first; r < last; ++r) {
    const float* row = z + r * width;
    Lanes least = Lanes{} + kFar;
    CodeLanes nearest = {}, block = {};
    for (int64_t b = 0; b * kLanes < count; ++b, block += 1) {
      const float* code = blocks + b * width * kLanes;
      Lanes distance = {};
      for (int64_t d = 0; d < width; ++d) {
        const Lanes difference = row[d] - *reinterpret_cast<const Lanes*>(code + d * kLanes);
        distance += difference * difference;
      }
      nearest = distance < least ? block : nearest;
      least = distance < least ? distance : least;
    }
    float distance = kFar;
    int32_t best = 0;
    for (int32_t lane = 0; lane < kLanes; ++lane) {
      const int32_t code = nearest[lane] * static_cast<int32_t>(kLanes) + lane;
      if (least[lane] < distance || (least[lane] == distance && distance < kFar && code < best))
        distance = least[lane], best = code;
    }
    codes[r] = best;
  }
}
}  // namespace

void nearest_code(const float* z, const float* codebook, int32_t* codes, int64_t rows, int64_t count, int64_t width, int threads) {
  if (rows == 0) return;
  const std::vector<float> blocks = side_by_side(codebook, count, width);
  row_tiles<kTilePairs>(rows, count * width, threads, [&](int64_t first, int64_t last) {
    choose(z, blocks.data(), codes, first, last, count, width);
  });
}

OCTAVO_KERNEL(nearest_code) {
  const Arguments a(call, "nearest_code", {"z", "codebook", "codes"});
  const int64_t rows = a.rows(0), width = a.cols(0), count = a.rows(1);
  a.floating(0), a.same_dtype(1, 0), a.shape(1, {count, width}), a.dtype(2, DType::i32), a.count(2, rows, "(R)");
  if (rows > 0 && count == 0) throw std::invalid_argument("nearest_code: codebook expected at least one code, got " + shape_text(a[1]));
  auto* codes = a.data<int32_t>(2);
  a.run([&]<class T>(T) { nearest_code_reference(a.data<const T>(0), a.data<const T>(1), codes, rows, count, width); },
        [&] { nearest_code(a.data<const float>(0), a.data<const float>(1), codes, rows, count, width, a.threads()); });
}
