#include "resize.h"

#include <stdexcept>

#include "arguments.h"
#include "tiles.h"

// Separable: an output row is a weighted sum of at most four input rows (vector code), then of four columns of that line.
namespace {
std::vector<Taps> all_taps(int64_t from, int64_t to, bool cubic) {
  std::vector<Taps> taps(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) taps[i] = resize_taps(i, from, to, cubic);
  return taps;
}

OCTAVO_CLONES void blend_rows(const float* plane, const Taps& taps, float* line, int64_t width) {
  const float *r0 = plane + taps.at[0] * width, *r1 = plane + taps.at[1] * width, *r2 = plane + taps.at[2] * width, *r3 = plane + taps.at[3] * width;
  const auto w0 = static_cast<float>(taps.weight[0]), w1 = static_cast<float>(taps.weight[1]);
  const auto w2 = static_cast<float>(taps.weight[2]), w3 = static_cast<float>(taps.weight[3]);
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) line[c] = (w0 * r0[c] + w1 * r1[c]) + (w2 * r2[c] + w3 * r3[c]);
}

OCTAVO_CLONES void add_scaled(const float* line, float weight, float* row, int64_t width) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) row[c] += weight * line[c];
}

float blend(const float* line, const Taps& taps) {
  float sum = 0;
  for (int k = 0; k < 4; ++k) sum += static_cast<float>(taps.weight[k]) * line[taps.at[k]];
  return sum;
}
}  // namespace

void resize_forward(const float* x, float* y, const ResizeShape& s, int threads) {
  const std::vector<Taps> down = all_taps(s.height, s.to_height, s.cubic), right = all_taps(s.width, s.to_width, s.cubic);
  row_tiles(s.planes * s.to_height, s.width + 4 * s.to_width, threads, [&](int64_t first, int64_t last) {
    std::vector<float> line(static_cast<size_t>(s.width));
    for (int64_t r = first; r < last; ++r) {
      blend_rows(x + r / s.to_height * s.height * s.width, down[r % s.to_height], line.data(), s.width);
      for (int64_t j = 0; j < s.to_width; ++j) y[r * s.to_width + j] = blend(line.data(), right[j]);
    }
  });
}

// A plane of dx belongs to one thread, and is added to row by row of dy.
void resize_backward(const float* dy, float* dx, const ResizeShape& s, int threads) {
  const std::vector<Taps> down = all_taps(s.height, s.to_height, s.cubic), right = all_taps(s.width, s.to_width, s.cubic);
  row_tiles(s.planes, s.height * s.width + s.to_height * (4 * s.to_width + 4 * s.width), threads, [&](int64_t first, int64_t last) {
    std::vector<float> line(static_cast<size_t>(s.width));
    for (int64_t p = first; p < last; ++p) {
      float* plane = dx + p * s.height * s.width;
      std::fill_n(plane, s.height * s.width, 0.0f);
      for (int64_t i = 0; i < s.to_height; ++i) {
        const float* row = dy + (p * s.to_height + i) * s.to_width;
        std::fill(line.begin(), line.end(), 0.0f);
        for (int64_t j = 0; j < s.to_width; ++j)
          for (int k = 0; k < 4; ++k) line[right[j].at[k]] += static_cast<float>(right[j].weight[k]) * row[j];
        for (int k = 0; k < 4; ++k)
          if (down[i].weight[k] != 0) add_scaled(line.data(), static_cast<float>(down[i].weight[k]), plane + down[i].at[k] * s.width, s.width);
      }
    }
  });
}

static ResizeShape shape_of(const Arguments& a, int image, int resized) {
  a.floating(0), a.same_dtype(1, 0);
  const TensorView &x = a[image], &y = a[resized];
  bool fits = x.rank >= 2 && y.rank == x.rank;
  int64_t planes = 1;
  for (int d = 0; fits && d + 2 < x.rank; ++d) fits = x.dim[d] == y.dim[d], planes *= x.dim[d];
  if (fits) {
    const ResizeShape s{planes, x.dim[x.rank - 2], x.dim[x.rank - 1], y.dim[y.rank - 2], y.dim[y.rank - 1], a.whole(0, 0, 1) == 1};
    if (y.numel == 0 || x.numel > 0) return s;
  }
  throw std::invalid_argument(format("%s: %s expected (..., H', W') beside %s %s with H, W > 0, got %s", a.kernel(), a.name(resized).c_str(),
                                     a.name(image).c_str(), shape_text(x).c_str(), shape_text(y).c_str()));
}

OCTAVO_KERNEL(resize_forward) {
  const Arguments a(call, "resize_forward", {"x", "y"}, {"cubic"});
  const ResizeShape s = shape_of(a, 0, 1);
  if (a[1].numel == 0) return;
  a.run([&]<class T>(T) { resize_forward_reference(a.data<const T>(0), a.data<T>(1), s); },
        [&] { resize_forward(a.data<const float>(0), a.data<float>(1), s, a.threads()); });
}

OCTAVO_KERNEL(resize_backward) {
  const Arguments a(call, "resize_backward", {"dy", "dx"}, {"cubic"});
  const ResizeShape s = shape_of(a, 1, 0);
  if (a[0].numel == 0) return std::fill_n(a.data<char>(1), a[1].bytes(), char{0}), void();
  a.run([&]<class T>(T) { resize_backward_reference(a.data<const T>(0), a.data<T>(1), s); },
        [&] { resize_backward(a.data<const float>(0), a.data<float>(1), s, a.threads()); });
}
