#include "pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

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

/// The class of a free block for this request: the same, or for large ones up to twice as large (fresh memory costs a fault and a
/// clearing per page: 0.1 to 0.3 s per GB). A limit counts what is reserved, so blocks are exact under one.
Pool::Classes::iterator Pool::serving(size_t reserved) {
  const size_t most = reserved < kHuge || limit_ ? reserved : 2 * reserved;
  for (auto found = cached_.lower_bound(reserved); found != cached_.end() && found->first <= most; ++found)
    if (!found->second.empty()) return found;
  return cached_.end();
}

Block Pool::take(size_t bytes) {
  size_t reserved = size_class(bytes);
  void* data = nullptr;
  if (const auto found = serving(reserved); found != cached_.end()) {
    reserved = found->first;
    data = found->second.back().data;
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
  cached_[block.reserved].push_back({block.data, ++given_});
  bytes_cached_ += block.reserved;
  // Batches of changing length leave classes behind that nobody asks for again.
  const size_t keep = std::max(kCacheFloor, highest_);
  shed(std::max(bytes_cached_ > keep ? bytes_cached_ - keep : 0, over_limit()));
}

void Pool::limit(size_t bytes) {
  limit_ = bytes;
  shed(over_limit());
}

/// The class of the block unused for longest: a replayed step leaves behind what the eager one before it took piece by piece.
Pool::Classes::iterator Pool::dispensable() {
  const auto given = [](const auto& entry) { return entry.second.empty() ? std::numeric_limits<uint64_t>::max() : entry.second.front().given; };
  return std::min_element(cached_.begin(), cached_.end(), [&](const auto& a, const auto& b) { return given(a) < given(b); });
}

void Pool::shed(size_t wanted) {
  while (wanted > 0 && bytes_cached_ > 0) {
    const auto found = dispensable();
    const size_t reserved = found->first;
    release_({found->second.front().data, 0, reserved});
    found->second.erase(found->second.begin());
    bytes_cached_ -= reserved;
    counts_.bytes_reserved -= reserved;
    wanted -= std::min(wanted, reserved);
  }
}
