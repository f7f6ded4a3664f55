// One member's connection to another one of its group: bytes in order both ways, word that the other gave up or left, and whether it lives.
// LK-1: nothing here waits: what does not fit or has not come is for the caller to wait for (Group::until).
// LK-2: `write`, `readable` and `consume` belong to the stream's thread, `announce` may be called from any.
#pragma once
#include <poll.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ring.h"

/// `bytes` in rows of `row`, `stride` from one to the next: a slice along some axis of a row-major tensor. One row: contiguous.
struct Region {
  unsigned char* base = nullptr;
  size_t bytes = 0, row = 0, stride = 0;

  static Region whole(const void* data, size_t bytes) { return {static_cast<unsigned char*>(const_cast<void*>(data)), bytes, bytes, bytes}; }
  /// From the byte at `done` to the end of its row.
  Piece at(size_t done) const {
    const size_t line = row ? done / row : 0, within = row ? done % row : 0;
    return {base + line * stride + within, std::min(row - within, bytes - done)};
  }
};

class Link {
 public:
  virtual ~Link() = default;

  /// Takes what fits now of `region` from `done` on -> how many bytes.
  virtual size_t write(const Region& region, size_t done) = 0;
  /// What has come, contiguous; looks for more while it is less than `wanted`.
  virtual Piece readable(size_t wanted) = 0;
  virtual void consume(size_t bytes) = 0;

  /// Why the other gave the group up, once it did.
  virtual std::optional<std::string> gave_up() = 0;
  /// Why nothing more will come, and nothing be taken: "its process 12 has ended". Costs a system call or two.
  virtual std::optional<std::string> gone() = 0;
  /// Tells the other: we leave (no reason), or give up.
  virtual void announce(const std::string* reason) = 0;
  /// Adds what poll has to watch besides the wake pipe.
  virtual void watch(std::vector<pollfd>& events, bool reads, bool writes) = 0;
};
