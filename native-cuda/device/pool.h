// Memory of the CPU device, handed out and taken back in the order of the program (one JavaScript thread calls it).
// PL-1: a block given back may be handed out again at once: the one stream runs commands in program order, so every
//       earlier user of the block is finished before a later one starts.
// PL-2: accounting is exact: bytes_in_use is the sum of what was asked for, bytes_reserved of what the system gave us.
// PL-3: no block is taken beyond the limit; cached blocks are returned to the system before an allocation is refused.
//       Without a limit a large block may serve a request of half its size: programs of several lengths share their scratch.
// PL-4: memory returns to the system only through `release`, which must run in stream order (a queued command may use it).
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

struct Block {
  void* data = nullptr;
  size_t bytes = 0;     // as asked for
  size_t reserved = 0;  // its size class
};

struct PoolCounts {
  size_t bytes_in_use = 0, bytes_reserved = 0, bytes_peak = 0;
};

class Pool {
 public:
  explicit Pool(std::function<void(Block)> release) : release_(std::move(release)) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Throws CodedError ERR_MEMORY with bytes in use and the limit. A block of zero bytes has an address too.
  Block take(size_t bytes);
  void give(Block block);
  /// 0 = no limit. Takes no memory away from a tensor: a limit below what is in use refuses the next `take`.
  void limit(size_t bytes);
  size_t limit() const { return limit_; }
  /// The peak starts again at what is in use. What is worth keeping in the cache still goes by the highest ever.
  void reset_peak() { counts_.bytes_peak = counts_.bytes_in_use; }
  const PoolCounts& counts() const { return counts_; }

  static size_t size_class(size_t bytes);
  static void* map(size_t reserved);                 // from the system; null when it has none
  static void unmap(void* data, size_t reserved);

 private:
  struct Cached {
    void* data;
    uint64_t given;  // when, in blocks given back
  };
  using Classes = std::map<size_t, std::vector<Cached>>;  // size class -> free blocks, the oldest first

  Classes::iterator serving(size_t reserved);
  Classes::iterator dispensable();
  void shed(size_t wanted);
  size_t over_limit() const { return limit_ && counts_.bytes_reserved > limit_ ? counts_.bytes_reserved - limit_ : 0; }

  std::function<void(Block)> release_;
  Classes cached_;
  size_t bytes_cached_ = 0;
  uint64_t given_ = 0;
  size_t limit_ = 0, highest_ = 0;
  PoolCounts counts_;
};
