#include "pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "../common/fault.h"

namespace {
constexpr size_t kSmallest = 256;
constexpr size_t kHuge = size_t{2} << 20;           // from here on blocks ask for huge pages: fewer faults on first touch
constexpr size_t kCacheFloor = size_t{256} << 20;   // cached bytes up to this never go back to the system by themselves
}  // namespace

// Eight classes per power of two: at most an eighth is lost to rounding, and shapes that differ little share blocks.
size_t Pool::size_class(size_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  const size_t step = std::max<size_t>(64, std::bit_floor(bytes - 1) / 8);
  return (bytes + step - 1) / step * step;
}

void* Pool::map(size_t reserved) {
  if (reserved < kHuge) return std::aligned_alloc(64, reserved);
  void* data = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, reserved, MADV_HUGEPAGE);  // advice: a kernel without huge pages may refuse it
  return data;
}

void Pool::unmap(void* data, size_t reserved) {
  if (reserved < kHuge) std::free(data);
  else munmap(data, reserved);
}

Block Pool::take(size_t bytes) {
  const size_t reserved = size_class(bytes);
  void* data = nullptr;
  if (auto found = cached_.find(reserved); found != cached_.end() && !found->second.empty()) {
    data = found->second.back();
    found->second.pop_back();
    bytes_cached_ -= reserved;
  } else {
    if (limit_ && counts_.bytes_reserved + reserved > limit_) shed(counts_.bytes_reserved + reserved - limit_);
    const bool fits = !limit_ || counts_.bytes_reserved + reserved <= limit_;
    if (fits) data = map(reserved);
    if (!data)
      throw CodedError("ERR_MEMORY",
                       format("no room for %zu bytes: %zu bytes in use, %zu reserved, %s%zu. Use smaller microbatches, "
                              "free tensors earlier or raise the limit.",
                              bytes, counts_.bytes_in_use, counts_.bytes_reserved,
                              fits ? "the system refused; limit " : "limit ", limit_));
    counts_.bytes_reserved += reserved;
  }
  counts_.bytes_in_use += bytes;
  counts_.bytes_peak = std::max(counts_.bytes_peak, counts_.bytes_in_use);
  highest_ = std::max(highest_, counts_.bytes_in_use);
  return {data, bytes, reserved};
}

void Pool::give(Block block) {
  counts_.bytes_in_use -= block.bytes;
  cached_[block.reserved].push_back(block.data);
  bytes_cached_ += block.reserved;
  // Batches of changing length leave classes behind that nobody asks for again.
  const size_t keep = std::max(kCacheFloor, highest_);
  shed(std::max(bytes_cached_ > keep ? bytes_cached_ - keep : 0, over_limit()));
}

void Pool::limit(size_t bytes) {
  limit_ = bytes;
  shed(over_limit());
}

// Largest first: the fewest calls for the bytes wanted.
void Pool::shed(size_t wanted) {
  for (auto it = cached_.rbegin(); it != cached_.rend() && wanted > 0; ++it) {
    while (!it->second.empty() && wanted > 0) {
      release_({it->second.back(), 0, it->first});
      it->second.pop_back();
      bytes_cached_ -= it->first;
      counts_.bytes_reserved -= it->first;
      wanted -= std::min(wanted, it->first);
    }
  }
}
