// A group of processes that make the same collective calls in the same order, each as commands of its own stream.
// GR-1: a call that began ends: with its result, or within a second or two of a member's end, departure or `abort`, naming whom it waits for.
// GR-2: after the first failure every call fails at once with it, and every other member learns of it.
// GR-3: members that call differently (operation, dtype, size, root) at the same place are told so by name; nothing hangs and nothing is mixed up.
// GR-4: the bits of a sum are those of the pairwise tree over ranks (pairwise_tree.h), whatever carries the bytes: shared memory on one host or
//       TCP between hosts. Both run the very same code over links that only move bytes.
// GR-5: waits sleep: after 4 us of looking, in poll, until a peer writes into the wake pipe or the socket has something.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../common/fault.h"
#include "../common/tensor_view.h"
#include "group_memory.h"

struct GroupFailure {
  const char* code;
  std::string message;
};

/// What stops the stream when a collective fails.
struct CollectiveFault : Fault {
  explicit CollectiveFault(const GroupFailure& failure) : Fault(failure.message, failure.code) {}
};

struct GroupMember {
  std::string name, host;
};

/// What a member says of its call to the others, before any data. 64 bytes, so that what follows is aligned.
struct CallNote {
  char op[23] = {};
  uint8_t dtype = 0;
  uint64_t call = 0;
  int64_t numel = 0, argument = 0;  // argument: root, or rows before the axis
  unsigned char unused[16] = {};
};
static_assert(sizeof(CallNote) == 64);

class Group {
 public:
  struct Facts {
    std::string name;
    int rank = 0;
    std::vector<GroupMember> members;
  };
  using Failed = std::function<void(const GroupFailure&)>;  // called once at most, from any thread

  /// links: by rank, none at our own.
  Group(Facts facts, std::vector<std::unique_ptr<Link>> links, std::shared_ptr<WakePipe> wake, MemberPage* page, std::shared_ptr<void> memory, Failed failed);
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int rank() const { return facts_.rank; }
  int size() const { return static_cast<int>(facts_.members.size()); }
  const std::string& name() const { return facts_.name; }

  // From any thread.
  /// Every wait of every member ends with the reason.
  void abort(const std::string& reason);
  std::optional<GroupFailure> failure() const;
  /// We need nothing more, and others who need us shall know that we are gone.
  void leave();

  // On the stream's thread, between `begin` and `end`.
  using Ranks = std::vector<int>;
  /// Exchanges notes: sends ours to `to`, reads those of `from` and compares.
  void begin(const CallNote& note, const Ranks& to, const Ranks& from, int64_t timeout_ms = -1);
  /// Queues bytes for a member; they must stay as they are until `end`, or until that member has proved that it read them.
  void send(int to, const Region& region);
  struct Arrival {
    int from;
    Region into;
    size_t done = 0;
  };
  /// Waits until all of them are in, in whatever order they come.
  void receive(std::vector<Arrival> arrivals);
  /// Elements that come from `from`, summed with ours into `into`: see pairwise_tree.h. `ours` and `into` may be the same.
  void sum(DType dtype, const Ranks& from, const Region& ours, const Region& into);
  /// Everything queued is out.
  void end();
  /// All ranks but ours.
  Ranks others() const;

 private:
  struct Queued {
    Region region;
    size_t done = 0;
  };
  /// Sends what is queued and waits until progress() says true; awaited() are the ranks it then still needs `wanted` bytes of.
  template <class Progress, class Awaited> void until(size_t wanted, Progress&& progress, Awaited&& awaited);
  void pump();
  Piece arrived(int from, size_t wanted) { return links_[static_cast<size_t>(from)]->readable(wanted); }
  void take(int from, size_t bytes);
  void hear();
  void check_deadline(const Ranks& awaited);
  std::optional<std::string> who_is_gone(const Ranks& awaited);
  void sleep(size_t wanted, const Ranks& awaited);
  void check_failed() const;
  void compare(const CallNote& theirs, int from);
  std::string call_text() const;
  std::string member_text(int rank) const;
  std::string waiting_text(const Ranks& awaited) const;
  /// `told`: what the others hear. It names who saw it, because they pass it on.
  void fail(const GroupFailure& failure, const std::string& told);
  [[noreturn]] void fail_and_throw(const char* code, const std::string& prefix, const std::string& what);

  Facts facts_;
  std::shared_ptr<void> memory_;  // the page and the rings
  std::shared_ptr<WakePipe> wake_;
  MemberPage* page_;
  std::vector<std::unique_ptr<Link>> links_;
  Failed failed_;

  mutable std::mutex mutex_;  // failure_, and who announces
  std::optional<GroupFailure> failure_;
  std::atomic<bool> has_failed_{false};
  bool left_ = false;

  std::vector<std::vector<Queued>> queues_;
  std::vector<size_t> sent_, received_;  // bytes since the call began
  CallNote note_;
  uint64_t calls_ = 0;
  int64_t deadline_ms_ = -1, looked_ms_ = 0;
  bool moved_ = false;
};
