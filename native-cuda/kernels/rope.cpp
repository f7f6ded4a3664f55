#include "rope.h"

#include <cmath>
#include <stdexcept>

#include "arguments.h"
#include "tiles.h"

/// One token: the same angles turn all its heads. `turn` holds K/2 cosines, then K/2 sines.
OCTAVO_CLONES static void turn_heads(const float* x, const float* turn, float* y, int64_t heads, int64_t half) {
  for (int64_t h = 0; h < heads; ++h, x += 2 * half, y += 2 * half) {
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const float first = x[i], second = x[i + half];
      y[i] = first * turn[i] - second * turn[i + half];
      y[i + half] = second * turn[i] + first * turn[i + half];
    }
  }
}

void rope(const Floats& x, const int32_t* positions, const float* frequency, const Floats& y, int64_t tokens, int64_t heads,
          int64_t head_width, int direction, int threads) {
  const int64_t half = head_width / 2, width = heads * head_width;
  row_tiles(tokens, width, threads, [&](int64_t first, int64_t last) {
    std::vector<float> turn(static_cast<size_t>(head_width));
    for (int64_t t = first; t < last; ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(positions[t]) * frequency[i];
        turn[i] = std::cos(angle), turn[i + half] = std::sin(angle) * static_cast<float>(direction);
      }
      turn_heads(x.read<0>(t * width, width), turn.data(), y.write<1>(t * width, width), heads, half);
    }
  });
}

/// The frequencies in the dtype of the arithmetic; checkpoints and plugins bring them in either.
template <class T> static std::vector<T> frequencies(const TensorView& t) {
  if (t.dtype == DType::f64) return std::vector<T>(t.as<const double>(), t.as<const double>() + t.numel);
  return std::vector<T>(t.as<const float>(), t.as<const float>() + t.numel);
}

OCTAVO_KERNEL_BF16(rope, OwnBf16::operands(0, 3)) {
  const Arguments a(call, "rope", {"x", "positions", "frequency", "y"}, {"heads", "direction"});
  const int64_t width = a.cols(0), tokens = a.rows(0), heads = a.whole(0, 1, 1 << 20);
  const int direction = static_cast<int>(a.whole(1, -1, 1));
  a.floating(0), a.dtype(1, DType::i32), a.count(1, tokens, "(B, N)"), a.floating(2), a.same_shape(3, 0);
  if (width % (2 * heads) != 0)
    throw std::invalid_argument(format("rope: x expected an even head width from %lld heads, got %s", static_cast<long long>(heads),
                                       shape_text(a[0]).c_str()));
  if (direction == 0) throw std::invalid_argument("rope: direction expected +1 or -1, got 0");
  const int64_t head_width = width / heads;
  a.count(2, head_width / 2, "(K/2)");
  const auto* positions = a.data<const int32_t>(1);
  a.run(
      [&]<class T>(T) {
        rope_reference(a.data<const T>(0), positions, frequencies<T>(a[2]).data(), a.data<T>(3), tokens, heads, head_width, direction);
      },
      [&] {
        rope(a.floats(0), positions, frequencies<float>(a[2]).data(), a.output(3), tokens, heads, head_width,
             direction, a.threads());
      });
}
