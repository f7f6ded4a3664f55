// Anonymous shared memory (memfd) between processes of one user on one host. The owner creates a slab and tells a peer
// (pid, fd, bytes); the peer opens /proc/<pid>/fd/<fd>, maps it once and keeps it.
// SL-1: a slab has no name in any file system: nothing is left behind, however a process ends.
// SL-2: its size is sealed: a peer cannot shrink it under a reader.
// SL-3: closing unmaps in stream order, after every queued copy that uses it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <unordered_map>

struct Slab {
  void* data = nullptr;
  size_t bytes = 0;
  int fd = -1;  // the owner's; -1 on the side that opened it
};

class SlabTable {
 public:
  SlabTable() = default;
  ~SlabTable();
  SlabTable(const SlabTable&) = delete;
  SlabTable& operator=(const SlabTable&) = delete;

  int create(size_t bytes);                        // ERR_MEMORY when the system refuses
  int open(int64_t pid, int fd, size_t bytes);     // ERR_LANE when the peer or its slab is gone, or smaller than told
  /// Forgets the slab and closes its descriptor; the caller unmaps what is returned, in stream order.
  Slab close(int slab);
  /// `bytes` at `offset`, or ERR_LANE when they are outside the slab.
  void* at(int slab, size_t offset, size_t bytes) const;
  const Slab& find(int slab) const;

 private:
  std::unordered_map<int, Slab> slabs_;
  int next_ = 1;
};
