// What a member shares with the others of its host: one anonymous segment (comm/slab.h) with its page and its outgoing rings, and a pipe
// that wakes it. Peers open both through /proc/<pid>/fd.
// GM-1: nothing has a name in any file system: whatever way a process ends, nothing is left.
// GM-2: a segment is believed only when it holds the token that came with the offer.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "group_link.h"
#include "slab.h"

constexpr size_t kTokenBytes = 16;
using Token = std::string;  // kTokenBytes of them

/// From the system's generator.
Token random_token();

struct MemberPage {
  enum State : uint32_t { open = 0, left = 1, gave_up = 2 };
  std::atomic<uint32_t> state{open};
  std::atomic<uint32_t> sleeping{0};  // its stream waits in poll: write a byte into its pipe
  unsigned char token[kTokenBytes] = {};
  char reason[1024] = {};  // written before `gave_up`
};

/// How a member's segment is laid out; every member computes the same from the size of the group.
struct SegmentPlan {
  int size = 0;
  size_t capacity = 0;  // of one ring

  explicit SegmentPlan(int size);
  size_t bytes() const;
  RingControl* control(void* segment, int to) const;
  Ring ring(void* segment, int to) const;
};

/// A pipe whose reader sleeps in poll. Never full in a way that matters: a byte is in it, so the reader wakes.
class WakePipe {
 public:
  WakePipe();                      // our own
  WakePipe(int64_t pid, int fd);   // a peer's
  ~WakePipe();
  WakePipe(const WakePipe&) = delete;
  WakePipe& operator=(const WakePipe&) = delete;
  int fd() const { return fd_; }
  int writer() const { return writer_; }
  void wake() const;
  void drain() const;

 private:
  int fd_ = -1, writer_ = -1;
};

/// A group's memory goes with the group, which commands of the stream keep alive: nothing is left to wait for.
void unmap_now(void* data, size_t bytes);

/// A process told apart from those that had its number before: field 22 of /proc/<pid>/stat. 0: there is none, or it has ended.
uint64_t process_start(int64_t pid);

/// Makes the other's stream look again, if it sleeps.
void wake_member(MemberPage& page, const WakePipe& pipe);

class SharedLink final : public Link {
 public:
  struct Peer {
    int64_t pid = 0;
    uint64_t start = 0;
    int segment = -1, wake = -1;  // descriptors of that process
    uint64_t inode = 0;           // of the segment
    Token token;
  };
  /// Throws CodedError ERR_COLLECTIVE when the peer or its segment is not there.
  SharedLink(const Peer& peer, const SegmentPlan& plan, void* own_segment, int own_rank, int peer_rank);

  size_t write(const Region& region, size_t done) override;
  Piece readable(size_t wanted) override;
  void consume(size_t bytes) override;
  std::optional<std::string> gave_up() override;
  std::optional<std::string> gone() override;
  void announce(const std::string* reason) override;
  void watch(std::vector<pollfd>&, bool, bool) override {}

 private:
  Peer peer_;
  SlabTable memory_{unmap_now};
  WakePipe wake_;
  MemberPage *own_page_, *page_ = nullptr;
  Ring out_, in_;
};
