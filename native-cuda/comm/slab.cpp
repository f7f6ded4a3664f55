#include "slab.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../common/fault.h"

namespace {
void* map_shared(int fd, size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return data == MAP_FAILED ? nullptr : data;
}
}  // namespace

SlabTable::~SlabTable() {
  for (auto& [id, slab] : slabs_) {
    munmap(slab.data, slab.bytes);
    if (slab.fd >= 0) ::close(slab.fd);
  }
}

int SlabTable::create(size_t bytes) {
  if (bytes == 0) throw CodedError("ERR_LANE", "slabCreate: a slab has at least one byte");
  const int fd = memfd_create("octavo-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw CodedError("ERR_MEMORY", format("slabCreate: memfd_create: %s", std::strerror(errno)));
  void* data = nullptr;
  if (ftruncate(fd, static_cast<off_t>(bytes)) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
    data = map_shared(fd, bytes);
  if (!data) {
    const int reason = errno;
    ::close(fd);
    throw CodedError("ERR_MEMORY", format("slabCreate: %zu bytes of shared memory: %s", bytes, std::strerror(reason)));
  }
  slabs_[next_] = {data, bytes, fd};
  return next_++;
}

int SlabTable::open(int64_t pid, int fd, size_t bytes) {
  const std::string path = format("/proc/%lld/fd/%d", static_cast<long long>(pid), fd);
  const int own = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (own < 0)
    throw CodedError("ERR_LANE", format("slabOpen: %s: %s. The peer must live on this host, as the same user, and still own "
                                        "the slab.", path.c_str(), std::strerror(errno)));
  struct stat info {};
  const bool right = fstat(own, &info) == 0 && static_cast<size_t>(info.st_size) == bytes && bytes > 0;
  void* data = right ? map_shared(own, bytes) : nullptr;
  const int reason = errno;
  ::close(own);  // the mapping stays
  if (!right)
    throw CodedError("ERR_LANE", format("slabOpen: %s has %lld bytes, expected %zu. The descriptor was reused?", path.c_str(),
                                        static_cast<long long>(info.st_size), bytes));
  if (!data) throw CodedError("ERR_LANE", format("slabOpen: mapping %zu bytes: %s", bytes, std::strerror(reason)));
  slabs_[next_] = {data, bytes, -1};
  return next_++;
}

const Slab& SlabTable::find(int slab) const {
  const auto found = slabs_.find(slab);
  if (found == slabs_.end()) throw CodedError("ERR_LANE", format("slab %d is not open here", slab));
  return found->second;
}

Slab SlabTable::close(int slab) {
  const Slab closed = find(slab);
  slabs_.erase(slab);
  if (closed.fd >= 0) ::close(closed.fd);
  return closed;
}

void* SlabTable::at(int slab, size_t offset, size_t bytes) const {
  const Slab& found = find(slab);
  if (offset > found.bytes || bytes > found.bytes - offset)
    throw CodedError("ERR_LANE", format("slab %d has %zu bytes, asked for %zu at offset %zu", slab, found.bytes, bytes, offset));
  return static_cast<unsigned char*>(found.data) + offset;
}
