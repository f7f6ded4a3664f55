#include "streaming.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

size_t last_level_cache() {
  static const size_t bytes = [] {
    long found = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
    found = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return found > 0 ? static_cast<size_t>(found) : size_t{32} << 20;
  }();
  return bytes;
}

#if defined(__SSE2__)
void stream_bytes(const void* from, void* to, size_t bytes) {
  constexpr size_t kLine = 64;
  const char* in = static_cast<const char*>(from);
  char* out = static_cast<char*>(to);
  // Whole lines only: a line written in parts is read after all.
  const size_t head = std::min(bytes, (kLine - reinterpret_cast<uintptr_t>(out) % kLine) % kLine);
  std::memcpy(out, in, head);
  size_t at = head;
  for (; at + kLine <= bytes; at += kLine) {
    const __m128i* line = reinterpret_cast<const __m128i*>(in + at);
    __m128i* target = reinterpret_cast<__m128i*>(out + at);
    const __m128i a = _mm_loadu_si128(line), b = _mm_loadu_si128(line + 1), c = _mm_loadu_si128(line + 2), d = _mm_loadu_si128(line + 3);
    _mm_stream_si128(target, a), _mm_stream_si128(target + 1, b), _mm_stream_si128(target + 2, c), _mm_stream_si128(target + 3, d);
  }
  std::memcpy(out + at, in + at, bytes - at);
  _mm_sfence();
}
#else
void stream_bytes(const void* from, void* to, size_t bytes) { std::memcpy(to, from, bytes); }
#endif
