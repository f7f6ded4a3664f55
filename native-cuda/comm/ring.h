// Bytes in order from one writer to one reader, through memory that both see: of two processes or of one.
// RG-1: what was produced is seen whole by the reader, and what was consumed may be overwritten at once by the writer.
// RG-2: offsets only grow; a stream whose messages begin on multiples of 64 never has one of up to 64 bytes torn by the end of the memory.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

struct RingControl {
  alignas(64) std::atomic<uint64_t> written{0};
  alignas(64) std::atomic<uint64_t> read{0};
};
static_assert(std::atomic<uint64_t>::is_always_lock_free, "the two sides are different processes");

struct Piece {
  unsigned char* data = nullptr;
  size_t bytes = 0;
};

class Ring {
 public:
  Ring() = default;
  /// capacity: a power of two, at least 64.
  Ring(RingControl* control, unsigned char* data, size_t capacity) : control_(control), data_(data), capacity_(capacity) {}

  size_t buffered() const { return static_cast<size_t>(control_->written.load(std::memory_order_acquire) - control_->read.load(std::memory_order_acquire)); }
  /// Produced more than there is room for, or consumed more than was produced: somebody else wrote here.
  bool torn() const { return buffered() > capacity_; }

  /// The writer: free memory `ahead` bytes after what was produced, up to where the memory ends.
  Piece writable(size_t ahead = 0) const {
    const uint64_t at = control_->written.load(std::memory_order_relaxed) + ahead;
    const size_t used = static_cast<size_t>(at - control_->read.load(std::memory_order_acquire)), offset = static_cast<size_t>(at % capacity_);
    return {data_ + offset, used >= capacity_ ? 0 : std::min(capacity_ - used, capacity_ - offset)};
  }
  void produce(size_t bytes) { control_->written.store(control_->written.load(std::memory_order_relaxed) + bytes, std::memory_order_release); }

  /// The reader: what has come, up to where the memory ends.
  Piece readable() const {
    const uint64_t at = control_->read.load(std::memory_order_relaxed);
    const size_t there = static_cast<size_t>(control_->written.load(std::memory_order_acquire) - at), offset = static_cast<size_t>(at % capacity_);
    return {data_ + offset, std::min(there, capacity_ - offset)};
  }
  void consume(size_t bytes) { control_->read.store(control_->read.load(std::memory_order_relaxed) + bytes, std::memory_order_release); }

 private:
  RingControl* control_ = nullptr;
  unsigned char* data_ = nullptr;
  size_t capacity_ = 0;
};
