// How processes become a group. Each takes a seat, which is everything that others need to reach it, as plain data; whoever drives carries
// all offers to all members; each then joins. Between members of one host nothing is waited for: what an offer names is there already.
// Between hosts the lower rank connects to the higher one, on a thread of the join's own, so that groups may be joined in any order.
// GJ-1: a seat that is dropped, joined or not, leaves nothing behind. GJ-2: a seat listens until it has joined, and not longer.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "group.h"
#include "group_socket.h"

struct SeatOffer {
  int64_t pid = 0;
  uint64_t start = 0, inode = 0;
  int segment = -1, wake = -1, port = 0;
  Token token;
};

/// An offer as a member sees it: `shared` when it lives on this host.
struct OfferedMember {
  GroupMember member;
  bool shared = false;
  std::string address;  // empty: it listens nowhere
  SeatOffer offer;
};

class GroupSeat {
 public:
  /// Throws CodedError ERR_COLLECTIVE, ERR_MEMORY. `address` empty: nobody can come from another host.
  GroupSeat(std::string name, int rank, int size, const std::string& address);
  ~GroupSeat();
  GroupSeat(const GroupSeat&) = delete;
  GroupSeat& operator=(const GroupSeat&) = delete;

  const SeatOffer& offer() const { return offer_; }

  using Joined = std::function<void(std::shared_ptr<Group> group, const std::string& error)>;  // called once, on any thread
  void join(std::vector<OfferedMember> members, int64_t timeout_ms, Group::Failed failed, Joined joined);

 private:
  void meet(const std::vector<OfferedMember>& members, int64_t timeout_ms, const Group::Failed& failed, const Joined& joined);
  std::unique_ptr<Link> link_shared(const OfferedMember& member, int rank) const;
  std::vector<std::unique_ptr<Link>> link_remote(const std::vector<OfferedMember>& members, int64_t until_ms);
  std::string missing_text(const std::vector<OfferedMember>& members, const std::map<int, std::vector<Socket>>& met) const;

  struct Memory {
    SlabTable slabs{unmap_now};
    void* segment = nullptr;
  };
  std::string name_;
  int rank_, size_;
  SegmentPlan plan_;
  std::shared_ptr<Memory> memory_;
  std::shared_ptr<WakePipe> wake_;
  SeatOffer offer_;
  std::optional<Listener> listener_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// The groups of this process by number; kernels find theirs here. Functions may be called from any thread.
class GroupTable {
 public:
  int64_t add(std::shared_ptr<Group> group);
  /// Throws Fault when it was closed.
  std::shared_ptr<Group> find(int64_t number) const;
  /// The group is closed. Not there: nothing.
  void leave(int64_t number);
  void clear();
  /// Everybody learns that this process can no longer take part: a kernel failed, or it ends.
  void abort_all(const std::string& reason);

 private:
  mutable std::mutex mutex_;
  std::map<int64_t, std::shared_ptr<Group>> groups_;
  int64_t next_ = 1;
};

GroupTable& group_table();
