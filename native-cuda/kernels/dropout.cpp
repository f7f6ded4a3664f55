#include "dropout.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "arguments.h"
#include "philox.h"
#include "tiles.h"

/// The first `blocks` of a stream from `first_block` on, four words each.
OCTAVO_CLONES static void draw_plain(uint32_t* words, int64_t blocks, uint64_t key, uint64_t stream, int64_t first_block) {
#pragma omp simd
  for (int64_t b = 0; b < blocks; ++b) {
    const PhiloxWords four = philox(key, stream, static_cast<uint64_t>(first_block + b));
    words[4 * b] = four[0], words[4 * b + 1] = four[1], words[4 * b + 2] = four[2], words[4 * b + 3] = four[3];
  }
}

#if defined(__x86_64__) && defined(__gnu_linux__)
/// The same words for a multiple of 8 blocks. A word of each of eight blocks lies in the lower halves of 64-bit lanes, where one
/// instruction multiplies it to 64 bits; what is left in the upper halves is never read. The compiler does not find that.
__attribute__((target("avx512f"))) static void draw_avx512(uint32_t* words, int64_t blocks, uint64_t key, uint64_t stream, int64_t first_block) {
  typedef uint64_t Lanes __attribute__((vector_size(64)));
  constexpr Lanes first_half = {0, 8, 1, 9, 2, 10, 3, 11}, second_half = {4, 12, 5, 13, 6, 14, 7, 15};
  const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
  Lanes block = Lanes{0, 1, 2, 3, 4, 5, 6, 7} + static_cast<uint64_t>(first_block);
  for (int64_t b = 0; b < blocks; b += 8, words += 32, block += 8) {
    Lanes c0 = block, c1 = block >> 32, c2 = Lanes{} + stream, c3 = c2 >> 32;
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
      const Lanes p0 = Lanes(_mm512_maskz_mul_epu32(0xFF, __m512i(c0), m0)), p1 = Lanes(_mm512_maskz_mul_epu32(0xFF, __m512i(c2), m1));
      c0 = (p1 >> 32) ^ c1 ^ k0, c1 = p1;
      c2 = (p0 >> 32) ^ c3 ^ k1, c3 = p0;
    }
    const Lanes front = (c0 & 0xFFFFFFFF) | c1 << 32, back = (c2 & 0xFFFFFFFF) | c3 << 32;
    const Lanes pair[] = {__builtin_shuffle(front, back, first_half), __builtin_shuffle(front, back, second_half)};
    std::memcpy(words, pair, sizeof pair);
  }
}
#endif

/// n words of a stream, from block `first_block` on; `words` has room for n rounded up to a multiple of 32.
static void draw(uint32_t* words, int64_t n, uint64_t key, uint64_t stream, int64_t first_block) {
#if defined(__x86_64__) && defined(__gnu_linux__)
  if (__builtin_cpu_supports("avx512f")) return draw_avx512(words, tile_count(n, 32) * 8, key, stream, first_block);
#endif
  draw_plain(words, tile_count(n, 4), key, stream, first_block);
}

OCTAVO_CLONES static void uniform_tile(const uint32_t* words, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float u = static_cast<float>(words[i]) * 0x1p-32f;
    y[i] = u < 0x1.fffffep-1f ? u : 0x1.fffffep-1f;
  }
}

OCTAVO_CLONES static void keep_tile(const float* x, const uint32_t* words, float* y, int64_t n, uint32_t threshold, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = x[i] * factor;
    y[i] = words[i] >= threshold ? scaled : 0.0f;
  }
}

/// body(first element, count, words) over [0, n) in pieces of at most kPiece words.
constexpr int64_t kPiece = 4096;
template <class F> static void each_piece(int64_t n, uint64_t key, uint64_t stream, F body) {
  uint32_t words[kPiece];
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = std::min(kPiece, n - begin);
    draw(words, count, key, stream, begin / 4);
    body(begin, count, words);
  }
}

void dropout(const Floats& x, const int32_t* sample_ids, const Floats& y, int64_t batch, int64_t sample_elements, const DropoutSite& site, int threads) {
  const auto threshold = static_cast<uint32_t>(std::ceil(site.p * 0x1p32));  // word / 2^32 >= p, on whole numbers
  const float factor = static_cast<float>(1 / (1 - site.p));
  row_tiles(batch, sample_elements, threads, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t at = b * sample_elements;
      each_piece(sample_elements, site.key(), site.stream(sample_ids[b]), [&](int64_t begin, int64_t count, const uint32_t* words) {
        keep_tile(x.read<0>(at + begin, count), words, y.write<1>(at + begin, count), count, threshold, factor);
      });
    }
  });
}

void philox_uniform(float* y, int64_t n, uint64_t key, uint64_t stream) {
  each_piece(n, key, stream, [&](int64_t begin, int64_t count, const uint32_t* words) {
    uniform_tile(words, y + begin, count);
  });
}

static uint64_t word(const Arguments& a, int scalar) { return static_cast<uint64_t>(a.whole(scalar, 0, 0xFFFFFFFF)); }

uint64_t step_of(const TensorView& step, const char* kernel) {
  if (step.dtype != DType::i64 || step.numel != 1) throw std::invalid_argument(format("%s: step expected i64 (1), got %s", kernel, shape_text(step).c_str()));
  const int64_t number = *step.as<const int64_t>();
  if (number < 0) throw std::invalid_argument(format("%s: step expected 0 or more, got %lld", kernel, static_cast<long long>(number)));
  return static_cast<uint64_t>(number);
}

OCTAVO_KERNEL_BF16(dropout, OwnBf16::any()) {
  std::vector<const char*> names{"x", "sampleIds", "y"};
  if (call.tensors > 3) names.push_back("step");
  const Arguments a(call, "dropout", names, {"p", "seedLo", "seedHi", "step", "site"});
  a.floating(0), a.dtype(1, DType::i32), a.same_shape(2, 0);
  const int64_t batch = a[0].rank == 0 ? 1 : a[0].dim[0], sample_elements = batch ? a[0].numel / batch : 0;
  a.count(1, batch, "(B)");
  if (!(a.scalar(0) >= 0 && a.scalar(0) <= 1 - 0x1p-32))
    throw std::invalid_argument(format("dropout: p expected within [0, 1 - 2^-32], got %g", a.scalar(0)));
  const uint64_t step = call.tensors > 3 ? step_of(a[3], "dropout") : static_cast<uint64_t>(a.whole(3, 0, int64_t{1} << 53));
  const DropoutSite site{a.scalar(0), word(a, 2) << 32 | word(a, 1), step, static_cast<uint32_t>(word(a, 4))};
  const auto* ids = a.data<const int32_t>(1);
  a.run([&]<class T>(T) { dropout_reference(a.data<const T>(0), ids, a.data<T>(2), batch, sample_elements, site); },
        [&] { dropout(a.floats(0), ids, a.output(2), batch, sample_elements, site, a.threads()); });
}

OCTAVO_KERNEL(philox_uniform) {
  const Arguments a(call, "philox_uniform", {"y"}, {"seedLo", "seedHi", "streamLo", "streamHi"});
  a.floating(0);
  const uint64_t key = word(a, 1) << 32 | word(a, 0), stream = word(a, 3) << 32 | word(a, 2);
  a.run([&]<class T>(T) { philox_uniform_reference(a.data<T>(0), a[0].numel, key, stream); },
        [&] { philox_uniform(a.data<float>(0), a[0].numel, key, stream); });
}
