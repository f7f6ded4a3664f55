// Memory that a kernel needs while it runs: aligned to a cache line, never initialised, kept by its owner and grown on demand,
// so that a step after the first asks the system for nothing. Owners are `thread_local`.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

template <class T> class Scratch {
 public:
  /// At least `count` elements, of undefined value; none have an address too. What an earlier call returned is no longer valid.
  T* grown(int64_t count) {
    if (count > size_ || !data_) {
      data_.reset(), size_ = 0;
      data_.reset(static_cast<T*>(std::aligned_alloc(64, (static_cast<size_t>(count) * sizeof(T) / 64 + 1) * 64)));
      if (!data_) throw std::bad_alloc();
      size_ = count;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_ = 0;
};

/// The calling thread's scratch of this user: `Owner` is any type of its own, and it tells its buffers apart by `kSlot`.
template <class Owner, int kSlot = 0, class T = float> T* thread_scratch(int64_t count) {
  thread_local Scratch<T> scratch;
  return scratch.grown(count);
}
