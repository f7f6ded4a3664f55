#include "group_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "../common/fault.h"

namespace {
constexpr size_t kPage = 4096;
static_assert(sizeof(MemberPage) <= kPage);

/// Rings of a member fit a second-level cache: 4 MiB for all of them, 64 to 512 KiB for one. A power of two.
size_t ring_capacity(int size) {
  size_t capacity = size_t{512} << 10;
  while (capacity > (size_t{64} << 10) && capacity * static_cast<size_t>(size - 1) > (size_t{4} << 20)) capacity /= 2;
  return capacity;
}
}  // namespace

Token random_token() {
  Token token(kTokenBytes, '\0');
  if (getrandom(token.data(), token.size(), 0) != static_cast<ssize_t>(token.size()))
    throw CodedError("ERR_COLLECTIVE", format("offerGroup: getrandom: %s", std::strerror(errno)));
  return token;
}

SegmentPlan::SegmentPlan(int size) : size(size), capacity(ring_capacity(size)) {}

// The page, a control for each rank, then a ring for each rank; those of the member itself stay untouched and cost no memory.
size_t SegmentPlan::bytes() const { return kPage + static_cast<size_t>(size) * (sizeof(RingControl) + capacity) + kPage; }

RingControl* SegmentPlan::control(void* segment, int to) const {
  return reinterpret_cast<RingControl*>(static_cast<unsigned char*>(segment) + kPage) + to;
}

Ring SegmentPlan::ring(void* segment, int to) const {
  const size_t controls = kPage + (static_cast<size_t>(size) * sizeof(RingControl) + kPage - 1) / kPage * kPage;
  return Ring(control(segment, to), static_cast<unsigned char*>(segment) + controls + static_cast<size_t>(to) * capacity, capacity);
}

WakePipe::WakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw CodedError("ERR_COLLECTIVE", format("offerGroup: pipe: %s", std::strerror(errno)));
  fd_ = ends[0], writer_ = ends[1];
}

// Opened for both: then a write never meets a pipe without reader, whatever became of its owner.
WakePipe::WakePipe(int64_t pid, int fd) {
  const std::string path = format("/proc/%lld/fd/%d", static_cast<long long>(pid), fd);
  writer_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (writer_ < 0) throw CodedError("ERR_COLLECTIVE", format("%s: %s", path.c_str(), std::strerror(errno)));
}

WakePipe::~WakePipe() {
  for (const int fd : {fd_, writer_})
    if (fd >= 0) ::close(fd);
}

void WakePipe::wake() const {
  const char byte = 0;
  [[maybe_unused]] const ssize_t written = ::write(writer_, &byte, 1);  // full: it wakes anyway
}

void WakePipe::drain() const {
  char bytes[256];
  while (::read(fd_, bytes, sizeof bytes) == sizeof bytes) {
  }
}

void unmap_now(void* data, size_t bytes) { munmap(data, bytes); }

uint64_t process_start(int64_t pid) {
  std::ifstream file(format("/proc/%lld/stat", static_cast<long long>(pid)));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const size_t name = text.rfind(')');  // a name may hold anything, also parentheses
  if (name == std::string::npos) return 0;
  std::istringstream fields(text.substr(name + 1));
  std::string field, state;
  fields >> state;
  for (int i = 4; i <= 22; ++i) fields >> field;
  return state == "Z" || state == "X" ? 0 : std::strtoull(field.c_str(), nullptr, 10);
}

// The fence pairs with the sleeper's: either we see that it sleeps, or it sees what we did before.
void wake_member(MemberPage& page, const WakePipe& pipe) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (page.sleeping.load(std::memory_order_relaxed) && page.sleeping.exchange(0)) pipe.wake();
}

SharedLink::SharedLink(const Peer& peer, const SegmentPlan& plan, void* own_segment, int own_rank, int peer_rank)
    : peer_(peer), wake_(peer.pid, peer.wake), own_page_(static_cast<MemberPage*>(own_segment)), out_(plan.ring(own_segment, peer_rank)) {
  const int slab = memory_.open(peer.pid, peer.segment, plan.bytes(), peer.inode);
  void* const segment = memory_.at(slab, 0, plan.bytes());
  page_ = static_cast<MemberPage*>(segment);
  in_ = plan.ring(segment, own_rank);
  if (std::memcmp(page_->token, peer.token.data(), kTokenBytes) != 0)
    throw CodedError("ERR_COLLECTIVE", format("process %lld: descriptor %d is not the segment that was offered", static_cast<long long>(peer.pid), peer.segment));
}

size_t SharedLink::write(const Region& region, size_t done) {
  size_t taken = 0;
  while (done + taken < region.bytes) {
    const Piece from = region.at(done + taken), to = out_.writable(taken);
    const size_t n = std::min(from.bytes, to.bytes);
    if (n == 0) break;
    std::memcpy(to.data, from.data, n);
    taken += n;
  }
  if (taken) out_.produce(taken), wake_member(*page_, wake_);
  return taken;
}

Piece SharedLink::readable(size_t) { return in_.readable(); }

void SharedLink::consume(size_t bytes) {
  in_.consume(bytes);
  wake_member(*page_, wake_);
}

std::optional<std::string> SharedLink::gave_up() {
  if (page_->state.load(std::memory_order_acquire) != MemberPage::gave_up) return std::nullopt;
  return std::string(page_->reason, strnlen(page_->reason, sizeof page_->reason));
}

std::optional<std::string> SharedLink::gone() {
  if (in_.torn() || out_.torn()) return "its shared memory was overwritten";
  if (page_->state.load(std::memory_order_acquire) == MemberPage::left) return "it has left the group";
  if (process_start(peer_.pid) == peer_.start) return std::nullopt;
  return format("its process %lld has ended", static_cast<long long>(peer_.pid));
}

void SharedLink::announce(const std::string* reason) {
  if (own_page_->state.load(std::memory_order_relaxed) == MemberPage::open) {
    if (reason) std::strncpy(own_page_->reason, reason->c_str(), sizeof own_page_->reason - 1);
    own_page_->state.store(reason ? MemberPage::gave_up : MemberPage::left, std::memory_order_release);
  }
  wake_member(*page_, wake_);
}
