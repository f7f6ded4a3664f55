// Philox4x32-10, a counter-based generator: four random words are a pure function of (key, stream, block). Any element of
// any tensor can be drawn without its neighbours, so threads, batches and devices cannot change what is drawn.
// Counter words: (block low, block high, stream low, stream high). Source: Salmon et al. 2011, with its known answers below.
#pragma once
#include <array>
#include <cstdint>

using PhiloxWords = std::array<uint32_t, 4>;

/// One of the ten rounds; straight-line code, so that a loop over blocks vectorises.
struct PhiloxState {
  uint32_t c0, c1, c2, c3, k0, k1;
  constexpr PhiloxState round() const {
    const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
    return {static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, static_cast<uint32_t>(p1), static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1,
            static_cast<uint32_t>(p0), k0 + 0x9E3779B9, k1 + 0xBB67AE85};
  }
};

constexpr PhiloxWords philox(uint64_t key, uint64_t stream, uint64_t block) {
  const PhiloxState start{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(stream),
                          static_cast<uint32_t>(stream >> 32), static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
  const PhiloxState end = start.round().round().round().round().round().round().round().round().round().round();
  return {end.c0, end.c1, end.c2, end.c3};
}

// The known answers of the authors' Random123 (kat_vectors), checked by the compiler.
static_assert(philox(0, 0, 0) == PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
static_assert(philox(~0ull, ~0ull, ~0ull) == PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
