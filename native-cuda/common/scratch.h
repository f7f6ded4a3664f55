// Memory that belongs to the calling thread and is used again and again: what a kernel needs beside its operands.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

/// At least `floats` of them, 64-byte aligned, their content undefined; valid until the thread asks for more of the same.
/// `Owner` is any type of the user, so that users never share; a user tells its buffers apart by `kSlot`.
template <class Owner, int kSlot = 0> float* thread_scratch(int64_t floats) {
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  struct Buffer {
    std::unique_ptr<float, Free> data;
    int64_t floats = -1;
  };
  thread_local Buffer buffer;
  if (floats > buffer.floats) {
    const int64_t grown = (floats / 16 + 1) * 16;
    buffer.data.reset(), buffer.floats = -1;
    buffer.data.reset(static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(grown) * sizeof(float))));
    if (!buffer.data) throw std::bad_alloc();
    buffer.floats = grown;
  }
  return buffer.data.get();
}
