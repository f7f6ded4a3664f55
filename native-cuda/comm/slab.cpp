#include "slab.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
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
  for (auto& [id, slab] : slabs_)
    if (slab.fd >= 0) ::close(slab.fd);
}

std::shared_ptr<const Mapping> SlabTable::keep(void* data, size_t bytes) const {
  return {new Mapping{data, bytes}, [unmap = unmap_](const Mapping* ended) {
            unmap(ended->data, ended->bytes);
            delete ended;
          }};
}

int SlabTable::create(size_t bytes) {
  if (bytes == 0) throw CodedError("ERR_LANE", "slabCreate: a slab has at least one byte");
  const int fd = memfd_create("octavo-slab", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw CodedError("ERR_MEMORY", format("slabCreate: memfd_create: %s", std::strerror(errno)));
  void* data = nullptr;
  struct stat info {};
  if (ftruncate(fd, static_cast<off_t>(bytes)) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0 && fstat(fd, &info) == 0)
    data = map_shared(fd, bytes);
  if (!data) {
    const int reason = errno;
    ::close(fd);
    throw CodedError("ERR_MEMORY", format("slabCreate: %zu bytes of shared memory: %s", bytes, std::strerror(reason)));
  }
  slabs_[next_] = {keep(data, bytes), fd, info.st_ino};
  return next_++;
}

int SlabTable::open(int64_t pid, int fd, size_t bytes, uint64_t inode) {
  const std::string path = format("/proc/%lld/fd/%d", static_cast<long long>(pid), fd);
  const int own = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (own < 0)
    throw CodedError("ERR_LANE", format("slabOpen: %s: %s. The peer must live on this host, as the same user, and still own "
                                        "the slab.", path.c_str(), std::strerror(errno)));
  struct stat info {};
  const bool right = fstat(own, &info) == 0 && static_cast<size_t>(info.st_size) == bytes && info.st_ino == inode && bytes > 0;
  void* data = right ? map_shared(own, bytes) : nullptr;
  const int reason = errno;
  ::close(own);  // the mapping stays
  if (!right)
    throw CodedError("ERR_LANE", format("slabOpen: %s has %lld bytes and inode %llu, expected %zu and %llu. The descriptor was reused?",
                                        path.c_str(), static_cast<long long>(info.st_size), static_cast<unsigned long long>(info.st_ino),
                                        bytes, static_cast<unsigned long long>(inode)));
  if (!data) throw CodedError("ERR_LANE", format("slabOpen: mapping %zu bytes: %s", bytes, std::strerror(reason)));
  slabs_[next_] = {keep(data, bytes), -1, inode};
  return next_++;
}

const Slab& SlabTable::find(int slab) const {
  const auto found = slabs_.find(slab);
  if (found == slabs_.end()) throw CodedError("ERR_LANE", format("slab %d is not open here", slab));
  return found->second;
}

void SlabTable::close(int slab) {
  const int fd = find(slab).fd;
  slabs_.erase(slab);
  if (fd >= 0) ::close(fd);
}

void* SlabTable::at(int slab, size_t offset, size_t bytes) const {
  const Mapping& found = *find(slab).mapping;
  if (offset > found.bytes || bytes > found.bytes - offset)
    throw CodedError("ERR_LANE", format("slab %d has %zu bytes, asked for %zu at offset %zu", slab, found.bytes, bytes, offset));
  return static_cast<unsigned char*>(found.data) + offset;
}

namespace {
/// Both processes look at the same word.
std::atomic<uint64_t>* head_of(void* slice) { return static_cast<std::atomic<uint64_t>*>(slice); }
}  // namespace

void SlabTable::stamp(int slab, size_t offset, uint64_t generation) const {
  head_of(at(slab, offset - kSliceHead, kSliceHead))->store(generation, std::memory_order_release);
}

uint64_t SlabTable::stamp(int slab, size_t offset) const {
  return head_of(at(slab, offset - kSliceHead, kSliceHead))->load(std::memory_order_acquire);
}
