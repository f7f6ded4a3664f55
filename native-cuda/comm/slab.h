// Anonymous shared memory (memfd) between processes of one user on one host. The owner creates a slab and tells a peer
// (pid, fd, bytes); the peer opens /proc/<pid>/fd/<fd>, maps it once and keeps it.
// SL-1: a slab has no name in any file system: nothing is left behind, however a process ends.
// SL-2: its size is sealed: a peer cannot shrink it under a reader.
// SL-3: it is unmapped in stream order, after every queued command that uses it, when it was closed and its last tensor is freed.
// SL-4: it is told apart from one that had its number before: its inode goes with (pid, fd).
// SL-5: a slice begins after a head of 64 bytes that holds its generation while it is taken: whoever comes late sees that it is gone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>

/// A piece of shared memory in this process; gone with its last user.
struct Mapping {
  void* data = nullptr;
  size_t bytes = 0;
};

struct Slab {
  std::shared_ptr<const Mapping> mapping;
  int fd = -1;  // the owner's; -1 on the side that opened it
  uint64_t inode = 0;
};

constexpr size_t kSliceHead = 64;

class SlabTable {
 public:
  /// `unmap` ends a mapping in stream order.
  using Unmap = std::function<void(void* data, size_t bytes)>;
  explicit SlabTable(Unmap unmap) : unmap_(std::move(unmap)) {}
  ~SlabTable();
  SlabTable(const SlabTable&) = delete;
  SlabTable& operator=(const SlabTable&) = delete;

  int create(size_t bytes);                        // ERR_MEMORY when the system refuses
  /// ERR_LANE when the peer or its slab is gone, or it is another one than told.
  int open(int64_t pid, int fd, size_t bytes, uint64_t inode);
  /// A number for a slab whose memory comes from elsewhere, and that memory.
  int reserve() { return next_++; }
  void put(int slab, std::shared_ptr<const Mapping> mapping) { slabs_[slab] = {std::move(mapping), -1, 0}; }
  /// Forgets the slab and closes its descriptor. Tensors that live in it keep its memory.
  void close(int slab);
  /// `bytes` at `offset`, or ERR_LANE when they are outside the slab.
  void* at(int slab, size_t offset, size_t bytes) const;
  const Slab& find(int slab) const;
  /// Writes or reads the generation of the slice that begins at `offset`; 0 marks a slice that is free.
  void stamp(int slab, size_t offset, uint64_t generation) const;
  uint64_t stamp(int slab, size_t offset) const;

 private:
  std::shared_ptr<const Mapping> keep(void* data, size_t bytes) const;

  Unmap unmap_;
  std::unordered_map<int, Slab> slabs_;
  int next_ = 1;
};
