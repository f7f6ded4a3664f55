#include "group.h"

#include <poll.h>

#include <chrono>
#include <cstring>

#include "pairwise_tree.h"

namespace {
constexpr int kLookAgainMs = 100;  // how long a peer may be dead before we know
constexpr auto kSpin = std::chrono::microseconds(4);

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

std::string note_text(const CallNote& note) {
  const std::string argument = note.argument ? format(" (%lld)", static_cast<long long>(note.argument)) : "";
  return format("%.*s of %s x %lld%s as call %llu", static_cast<int>(sizeof note.op), note.op, dtype_name(static_cast<DType>(std::min<int>(note.dtype, kDTypes - 1))),
                static_cast<long long>(note.numel), argument.c_str(), static_cast<unsigned long long>(note.call));
}
}  // namespace

Group::Group(Facts facts, std::vector<std::unique_ptr<Link>> links, std::shared_ptr<WakePipe> wake, MemberPage* page, std::shared_ptr<void> memory, Failed failed)
    : facts_(std::move(facts)), memory_(std::move(memory)), wake_(std::move(wake)), page_(page), links_(std::move(links)), failed_(std::move(failed)),
      queues_(links_.size()), sent_(links_.size()), received_(links_.size()) {}

Group::Ranks Group::others() const {
  Ranks ranks;
  for (int rank = 0; rank < size(); ++rank)
    if (rank != facts_.rank) ranks.push_back(rank);
  return ranks;
}

std::string Group::member_text(int rank) const {
  const GroupMember& member = facts_.members[static_cast<size_t>(rank)];
  return "rank " + std::to_string(rank) + " (" + member.name + " on host " + member.host + ")";
}

std::string Group::call_text() const {
  return std::string(note_.op) + " of group " + facts_.name + ", call " + std::to_string(calls_);
}

std::string Group::waiting_text(const Ranks& awaited) const {
  std::string text;
  for (const int rank : awaited) text += (text.empty() ? "waiting for " : ", ") + member_text(rank);
  return text;
}

std::optional<GroupFailure> Group::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

void Group::check_failed() const {
  if (has_failed_) throw CollectiveFault(*failure());
}

void Group::fail(const GroupFailure& failure, const std::string& told) {
  {
    std::lock_guard lock(mutex_);
    if (failure_ || left_) return;
    failure_ = failure;
    has_failed_ = true;
    for (const auto& link : links_)
      if (link) link->announce(&told);
  }
  wake_->wake();  // our own stream, when another thread failed the group
  failed_(failure);
}

void Group::fail_and_throw(const char* code, const std::string& prefix, const std::string& what) {
  fail({code, prefix + ": " + what}, what + ", says " + member_text(facts_.rank));
  throw CollectiveFault(*failure());
}

void Group::abort(const std::string& reason) {
  const std::string told = member_text(facts_.rank) + " gave up: " + reason;
  fail({"ERR_COLLECTIVE", "group " + facts_.name + ": " + told}, told);
}

void Group::leave() {
  std::lock_guard lock(mutex_);
  if (left_ || failure_) return;
  left_ = true;
  for (const auto& link : links_)
    if (link) link->announce(nullptr);
}

void Group::pump() {
  for (size_t rank = 0; rank < queues_.size(); ++rank) {
    auto& queue = queues_[rank];
    size_t finished = 0;
    for (; finished < queue.size(); ++finished) {
      Queued& next = queue[finished];
      const size_t taken = links_[rank]->write(next.region, next.done);
      next.done += taken;
      moved_ = moved_ || taken > 0;
      if (next.done < next.region.bytes) break;
    }
    queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(finished));
  }
}

void Group::take(int from, size_t bytes) {
  links_[static_cast<size_t>(from)]->consume(bytes);
  received_[static_cast<size_t>(from)] += bytes;
  moved_ = true;
}

/// Somebody gave up: so do we, with the first cause in its words.
void Group::hear() {
  for (const int rank : others()) {
    const std::optional<std::string> reason = links_[static_cast<size_t>(rank)]->gave_up();
    if (!reason) continue;
    fail({"ERR_COLLECTIVE", call_text() + ": " + *reason}, *reason);
    check_failed();
  }
}

std::optional<std::string> Group::who_is_gone(const Ranks& awaited) {
  if (now_ms() - looked_ms_ < kLookAgainMs) return std::nullopt;
  looked_ms_ = now_ms();
  for (const int rank : awaited)
    if (const std::optional<std::string> why = links_[static_cast<size_t>(rank)]->gone()) return waiting_text({rank}) + ": " + *why;
  return std::nullopt;
}

void Group::check_deadline(const Ranks& awaited) {
  if (deadline_ms_ < 0 || now_ms() < deadline_ms_) return;
  fail_and_throw("ERR_DEADLINE", std::string(note_.op) + " " + facts_.name, waiting_text(awaited));
}

void Group::sleep(size_t wanted, const Ranks& awaited) {
  std::vector<pollfd> events{{wake_->fd(), POLLIN, 0}};
  for (const int rank : others()) {
    const bool needed = std::find(awaited.begin(), awaited.end(), rank) != awaited.end();
    links_[static_cast<size_t>(rank)]->watch(events, needed && arrived(rank, wanted).bytes < wanted, !queues_[static_cast<size_t>(rank)].empty());
  }
  int64_t longest = kLookAgainMs;
  if (deadline_ms_ >= 0) longest = std::clamp<int64_t>(deadline_ms_ - now_ms(), 1, longest);
  poll(events.data(), events.size(), static_cast<int>(longest));
  wake_->drain();
}

template <class Progress, class Awaited> void Group::until(size_t wanted, Progress&& progress, Awaited&& awaited) {
  using Clock = std::chrono::steady_clock;
  auto spin_until = Clock::now() + kSpin;
  bool asleep = false;
  std::optional<std::string> gone;
  for (;; ) {
    check_failed();
    moved_ = false;
    pump();
    if (progress()) break;
    if (moved_) {
      spin_until = Clock::now() + kSpin, gone.reset();
    } else if (Clock::now() < spin_until) {
      pause_cpu();
    } else if (gone) {  // and nothing of it had come before it went
      fail_and_throw("ERR_COLLECTIVE", call_text(), *gone);
    } else if (!asleep) {  // say so, then look once more: a peer that moves now will wake us (wake_member)
      page_->sleeping.store(1);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      asleep = true;
    } else {
      const Ranks missing = awaited();
      hear();
      check_deadline(missing);
      gone = who_is_gone(missing);
      if (!gone) sleep(wanted, missing);
      asleep = false;
    }
  }
  page_->sleeping.store(0, std::memory_order_relaxed);
}

void Group::compare(const CallNote& theirs, int from) {
  if (std::memcmp(&theirs, &note_, sizeof note_) == 0) return;
  fail_and_throw("ERR_COLLECTIVE", "group " + facts_.name, member_text(facts_.rank) + " wants " + note_text(note_) + ", " + member_text(from) + " " +
                                       note_text(theirs) + " (every member must make the same calls in the same order)");
}

void Group::begin(const CallNote& note, const Ranks& to, const Ranks& from, int64_t timeout_ms) {
  note_ = note;
  note_.call = ++calls_;
  deadline_ms_ = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
  check_failed();
  hear();  // before anything is compared with what a member said that has given up since
  std::fill(sent_.begin(), sent_.end(), size_t{0});
  std::fill(received_.begin(), received_.end(), size_t{0});
  for (const int rank : to) send(rank, Region::whole(&note_, sizeof note_));
  Ranks missing = from;
  const auto read = [&](int rank) {
    const Piece piece = arrived(rank, sizeof note_);
    if (piece.bytes < sizeof note_) return false;
    CallNote theirs;
    std::memcpy(&theirs, piece.data, sizeof theirs);
    take(rank, sizeof theirs);
    compare(theirs, rank);
    return true;
  };
  until(sizeof note_, [&] { return std::erase_if(missing, read), missing.empty(); }, [&] { return missing; });
}

void Group::send(int to, const Region& region) {
  queues_[static_cast<size_t>(to)].push_back({region});
  sent_[static_cast<size_t>(to)] += region.bytes;
}

void Group::receive(std::vector<Arrival> arrivals) {
  const auto read = [&](Arrival& a) {
    while (a.done < a.into.bytes) {
      const Piece piece = arrived(a.from, 1);
      size_t copied = 0;
      while (copied < piece.bytes && a.done < a.into.bytes) {
        const Piece to = a.into.at(a.done);
        const size_t n = std::min(piece.bytes - copied, to.bytes);
        std::memcpy(to.data, piece.data + copied, n);
        copied += n, a.done += n;
      }
      if (copied == 0) return false;
      take(a.from, copied);
    }
    return true;
  };
  const auto progress = [&] {
    bool all = true;
    for (Arrival& a : arrivals) all = read(a) && all;
    return all;
  };
  const auto missing = [&] {
    Ranks ranks;
    for (const Arrival& a : arrivals)
      if (a.done < a.into.bytes) ranks.push_back(a.from);
    return ranks;
  };
  until(1, progress, missing);
}

void Group::sum(DType dtype, const Ranks& from, const Region& ours, const Region& into) {
  const size_t element = dtype_bytes(dtype);
  size_t done = 0;
  std::vector<const void*> parts(links_.size());
  const auto progress = [&] {
    while (done < into.bytes) {
      const Piece own = ours.at(done), to = into.at(done);
      size_t n = std::min(own.bytes, to.bytes);
      parts[static_cast<size_t>(facts_.rank)] = own.data;
      for (const int rank : from) {
        const Piece piece = arrived(rank, element);
        parts[static_cast<size_t>(rank)] = piece.data;
        n = std::min(n, piece.bytes / element * element);
      }
      if (n == 0) return false;
      tree_sum(dtype, parts.data(), size(), to.data, static_cast<int64_t>(n / element));
      for (const int rank : from) take(rank, n);
      done += n;
    }
    return true;
  };
  const auto missing = [&] {
    Ranks ranks;
    for (const int rank : from)
      if (arrived(rank, element).bytes < element) ranks.push_back(rank);
    return ranks;
  };
  until(element, progress, missing);
}

void Group::end() {
  static const unsigned char zeros[64] = {};
  unsigned char discarded[64];
  std::vector<Arrival> padding;
  const auto rest = [](size_t bytes) { return (64 - bytes % 64) % 64; };
  for (const int rank : others()) {
    const size_t at = static_cast<size_t>(rank);
    if (const size_t bytes = rest(sent_[at])) send(rank, Region::whole(zeros, bytes));
    if (const size_t bytes = rest(received_[at])) padding.push_back({rank, Region::whole(discarded, bytes)});
  }
  receive(std::move(padding));
  const auto unsent = [&] {
    Ranks ranks;
    for (const int rank : others())
      if (!queues_[static_cast<size_t>(rank)].empty()) ranks.push_back(rank);
    return ranks;
  };
  until(0, [&] { return unsent().empty(); }, unsent);
  deadline_ms_ = -1;
}
