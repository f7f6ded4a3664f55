// dropout: x (B, ...), sample ids i32 (B) -> y = kept ? x / (1 - p) : 0, 0 <= p <= 1 - 2^-32. The same call on dy is the gradient.
//   Tensors x, sampleIds, y, scalars p, seedLo, seedHi, step, site; a fourth tensor, step i64 (1), takes the place of the scalar.
// philox_uniform: y[i] = word i of stream / 2^32, in [0, 1); in f32 the nearest float below 1.
//
// DR-1: element e of a sample's tensor reads word e mod 4 of block e / 4, key = seed + step * 0x9E3779B97F4A7C15 (mod 2^64),
//       stream = (sample id low, site high); it is kept iff word / 2^32 >= p. So the mask of a sample depends on nothing
//       but (seed, step, sample id, site): not on the batch it is in, on padding after it, nor on threads.
// y may be x. The step enters the key by the odd constant 2^64 / golden ratio, so steps of one seed never share a key.
#pragma once
#include "floats.h"

struct DropoutSite {
  double p;
  uint64_t seed, step;
  uint32_t site;
  uint64_t key() const { return seed + step * 0x9E3779B97F4A7C15ull; }
  uint64_t stream(int32_t sample) const { return static_cast<uint64_t>(site) << 32 | static_cast<uint32_t>(sample); }
};

/// The step as a tensor gives it, i64 (1). Throws std::invalid_argument.
uint64_t step_of(const TensorView& step, const char* kernel);

void dropout(const Floats& x, const int32_t* sample_ids, const Floats& y, int64_t batch, int64_t sample_elements, const DropoutSite& site, int threads);
void philox_uniform(float* y, int64_t n, uint64_t key, uint64_t stream);  // initialisation only: one thread

template <class T>
void dropout_reference(const T* x, const int32_t* sample_ids, T* y, int64_t batch, int64_t sample_elements, const DropoutSite& site);
template <class T> void philox_uniform_reference(T* y, int64_t n, uint64_t key, uint64_t stream);
