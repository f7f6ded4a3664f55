#include "masked_mean.h"

#include "arguments.h"
#include "tiles.h"

static int64_t kept(const uint8_t* mask, int64_t tokens) {
  return tokens - std::count(mask, mask + tokens, uint8_t{0});
}

OCTAVO_CLONES static void add_row(const float* x, double* line, int64_t cols) {
#pragma omp simd
  for (int64_t c = 0; c < cols; ++c) line[c] += x[c];
}

OCTAVO_CLONES static void scaled_row(const float* x, float* y, float factor, int64_t cols) {
#pragma omp simd
  for (int64_t c = 0; c < cols; ++c) y[c] = x[c] * factor;
}

void masked_mean_forward(const float* x, const uint8_t* mask, float* y, int64_t batch, int64_t tokens, int64_t cols, int threads) {
  row_tiles<kLightTile>(batch, tokens * cols, threads, [&](int64_t first, int64_t last) {
    std::vector<double> line(static_cast<size_t>(cols));
    for (int64_t b = first; b < last; ++b) {
      const uint8_t* keep = mask + b * tokens;
      std::fill(line.begin(), line.end(), 0.0);
      for (int64_t n = 0; n < tokens; ++n)
        if (keep[n]) add_row(x + (b * tokens + n) * cols, line.data(), cols);
      const double count = static_cast<double>(std::max<int64_t>(1, kept(keep, tokens)));
      for (int64_t c = 0; c < cols; ++c) y[b * cols + c] = static_cast<float>(line[c] / count);
    }
  });
}

void masked_mean_backward(const float* dy, const uint8_t* mask, float* dx, int64_t batch, int64_t tokens, int64_t cols, int threads) {
  row_tiles<kLightTile>(batch, tokens * cols, threads, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const uint8_t* keep = mask + b * tokens;
      const float factor = 1.0f / static_cast<float>(std::max<int64_t>(1, kept(keep, tokens)));
      for (int64_t n = 0; n < tokens; ++n)
        scaled_row(dy + b * cols, dx + (b * tokens + n) * cols, keep[n] ? factor : 0.0f, cols);
    }
  });
}

OCTAVO_KERNEL(masked_mean_forward) {
  const Arguments a(call, "masked_mean_forward", {"x", "mask", "y"});
  a.floating(0), a.rank(0, 3), a.same_dtype(2, 0);
  const int64_t batch = a[0].dim[0], tokens = a[0].dim[1], cols = a[0].dim[2];
  a.mask(1), a.count(1, batch * tokens, "(B, N)"), a.shape(2, {batch, cols});
  const auto* mask = a.data<const uint8_t>(1);
  a.run([&]<class T>(T) { masked_mean_forward_reference(a.data<const T>(0), mask, a.data<T>(2), batch, tokens, cols); },
        [&] { masked_mean_forward(a.data<const float>(0), mask, a.data<float>(2), batch, tokens, cols, a.threads()); });
}

OCTAVO_KERNEL(masked_mean_backward) {
  const Arguments a(call, "masked_mean_backward", {"dy", "mask", "dx"});
  a.floating(0), a.rank(2, 3), a.same_dtype(2, 0);
  const int64_t batch = a[2].dim[0], tokens = a[2].dim[1], cols = a[2].dim[2];
  a.mask(1), a.count(1, batch * tokens, "(B, N)"), a.shape(0, {batch, cols});
  const auto* mask = a.data<const uint8_t>(1);
  a.run([&]<class T>(T) { masked_mean_backward_reference(a.data<const T>(0), mask, a.data<T>(2), batch, tokens, cols); },
        [&] { masked_mean_backward(a.data<const float>(0), mask, a.data<float>(2), batch, tokens, cols, a.threads()); });
}
