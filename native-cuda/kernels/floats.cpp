#include "floats.h"

void Floats::store(const float* buffer, int64_t at, int64_t n) const {
  if (!narrow_) return stream_bytes(buffer, static_cast<float*>(data_) + at, static_cast<size_t>(n) * sizeof(float));
  Bf16* out = static_cast<Bf16*>(data_) + at;
  if (!streamed_) return ::narrow(buffer, out, n);
  Bf16* rounded = thread_scratch<Floats, -1, Bf16>(n);
  ::narrow(buffer, rounded, n);
  stream_bytes(rounded, out, static_cast<size_t>(n) * sizeof(Bf16));
}

void Floats::fill(int64_t at, int64_t n, float value) const {
  if (narrow_) std::fill_n(static_cast<Bf16*>(data_) + at, n, ::narrow(value));
  else std::fill_n(static_cast<float*>(data_) + at, n, value);
}

void Floats::copy(int64_t at, const Floats& x, int64_t x_at, int64_t n) const {
  const char* in = static_cast<const char*>(x.data_) + x_at * (x.narrow_ ? 2 : 4);
  char* out = static_cast<char*>(data_) + at * (narrow_ ? 2 : 4);
  if (narrow_ && !x.narrow_) ::narrow(reinterpret_cast<const float*>(in), reinterpret_cast<Bf16*>(out), n);
  else if (!narrow_ && x.narrow_) widen(reinterpret_cast<const Bf16*>(in), reinterpret_cast<float*>(out), n);
  else if (in != out) std::memcpy(out, in, static_cast<size_t>(n) * (narrow_ ? 2 : 4));
}
