#include "softmax.h"

#include "arguments.h"
#include "lanes.h"
#include "tiles.h"

namespace {
OCTAVO_CLONES void forward_rows(const float* x, float* y, int64_t first, int64_t last, int64_t cols) {
  for (int64_t r = first; r < last; ++r) {
    const float* in = x + r * cols;
    float* out = y + r * cols;
    const float peak = row_peak(in, cols);
    for (int64_t c = 0; c < cols; ++c) out[c] = exp_f32(in[c] - peak);
    const float total = row_sum(out, cols);
    for (int64_t c = 0; c < cols; ++c) out[c] /= total;
  }
}

OCTAVO_CLONES void backward_rows(const float* dy, const float* y, float* dx, int64_t first, int64_t last, int64_t cols) {
  for (int64_t r = first; r < last; ++r) {
    const float *up = dy + r * cols, *out = y + r * cols;
    const float dot = row_dot(up, out, cols);
    for (int64_t c = 0; c < cols; ++c) dx[r * cols + c] = out[c] * (up[c] - dot);
  }
}
}  // namespace

void softmax_forward(const float* x, float* y, int64_t rows, int64_t cols, int threads) {
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) { forward_rows(x, y, first, last, cols); });
}

void softmax_backward(const float* dy, const float* y, float* dx, int64_t rows, int64_t cols, int threads) {
  row_tiles(rows, cols, threads, [&](int64_t first, int64_t last) { backward_rows(dy, y, dx, first, last, cols); });
}

OCTAVO_KERNEL(softmax_forward) {
  const Arguments at(call, "softmax_forward", {"x", "y"});
  at.floating(0);
  at.like(1, 0);
  at.run([&](auto t) {
    using T = decltype(t);
    softmax_forward_reference(at.data<T>(0), at.data<T>(1), at[0].rows(), at[0].cols());
  }, [&] { softmax_forward(at.data<float>(0), at.data<float>(1), at[0].rows(), at[0].cols(), at.threads()); });
}

OCTAVO_KERNEL(softmax_backward) {
  const Arguments at(call, "softmax_backward", {"dy", "y", "dx"});
  at.floating(0);
  for (int i : {1, 2}) at.like(i, 0);
  at.run([&](auto t) {
    using T = decltype(t);
    softmax_backward_reference(at.data<T>(0), at.data<T>(1), at.data<T>(2), at[0].rows(), at[0].cols());
  }, [&] { softmax_backward(at.data<float>(0), at.data<float>(1), at.data<float>(2), at[0].rows(), at[0].cols(), at.threads()); });
}
