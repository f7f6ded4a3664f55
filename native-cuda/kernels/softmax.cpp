#include "softmax.h"

#include "arguments.h"
#include "lanes.h"
#include "tiles.h"

namespace {
OCTAVO_CLONES void forward_rows(const float* x, float* y, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * cols;
    float* out = y + r * cols;
    const float peak = row_peak(in, cols);
    for (int64_t c = 0; c < cols; ++c) out[c] = exp_falling_f32(in[c] - peak);
    // 1 / total in two parts: the product is as accurate as the division, at a third of its time.
    const double inverse = 1.0 / row_sum(out, cols);
    const auto high = static_cast<float>(inverse), low = static_cast<float>(inverse - high);
    for (int64_t c = 0; c < cols; ++c) out[c] = out[c] * high + out[c] * low;
  }
}

OCTAVO_CLONES void backward_rows(const float* dy, const float* y, float* dx, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r) {
    const float *up = dy + r * cols, *out = y + r * cols;
    const float dot = row_dot(up, out, cols);
    for (int64_t c = 0; c < cols; ++c) dx[r * cols + c] = out[c] * (up[c] - dot);
  }
}
}  // namespace

void softmax_forward(const Floats& x, const Floats& y, int64_t rows, int64_t cols, int threads) {
  row_pieces(rows, cols, threads, {x, y}, [&](int64_t first, int64_t last) {
    const int64_t at = first * cols, n = (last - first) * cols;
    forward_rows(x.read<0>(at, n), y.write<1>(at, n), last - first, cols);
  });
}

void softmax_backward(const Floats& dy, const Floats& y, const Floats& dx, int64_t rows, int64_t cols, int threads) {
  row_pieces(rows, cols, threads, {dy, y, dx}, [&](int64_t first, int64_t last) {
    const int64_t at = first * cols, n = (last - first) * cols;
    backward_rows(dy.read<0>(at, n), y.read<1>(at, n), dx.write<2>(at, n), last - first, cols);
  });
}

OCTAVO_KERNEL_BF16(softmax_forward, OwnBf16::any()) {
  const Arguments at(call, "softmax_forward", {"x", "y"});
  at.floating(0);
  at.same_shape(1, 0);
  at.run([&](auto t) {
    using T = decltype(t);
    softmax_forward_reference(at.data<T>(0), at.data<T>(1), at[0].rows(), at[0].cols());
  }, [&] { softmax_forward(at.floats(0), at.output(1), at[0].rows(), at[0].cols(), at.threads()); });
}

OCTAVO_KERNEL_BF16(softmax_backward, OwnBf16::any()) {
  const Arguments at(call, "softmax_backward", {"dy", "y", "dx"});
  at.floating(0);
  for (int i : {1, 2}) at.same_shape(i, 0);
  at.run([&](auto t) {
    using T = decltype(t);
    softmax_backward_reference(at.data<T>(0), at.data<T>(1), at.data<T>(2), at[0].rows(), at[0].cols());
  }, [&] { softmax_backward(at.floats(0), at.floats(1), at.output(2), at[0].rows(), at[0].cols(), at.threads()); });
}
