// Memory that a kernel needs while it runs: aligned to a cache line, never initialised, kept by its owner and grown on demand,
// so that a step after the first asks the system for nothing. Meant for `thread_local` owners.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

template <class T> class Scratch {
 public:
  /// At least `count` elements, of undefined value. What an earlier call returned is no longer valid.
  T* grown(int64_t count) {
    if (count > size_) {
      data_.reset(static_cast<T*>(std::aligned_alloc(64, (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64)));
      if (!data_) size_ = 0, throw std::bad_alloc();
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
