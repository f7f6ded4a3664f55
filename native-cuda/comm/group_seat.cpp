#include "group_seat.h"

#include <unistd.h>

#include <cstring>
#include <new>

GroupSeat::GroupSeat(std::string name, int rank, int size, const std::string& address)
    : name_(std::move(name)), rank_(rank), size_(size), plan_(size), memory_(std::make_shared<Memory>()), wake_(std::make_shared<WakePipe>()) {
  const int slab = memory_->slabs.create(plan_.bytes());
  memory_->segment = memory_->slabs.at(slab, 0, plan_.bytes());
  auto* page = new (memory_->segment) MemberPage;
  for (int to = 0; to < size; ++to) new (plan_.control(memory_->segment, to)) RingControl;
  offer_.token = random_token();
  std::memcpy(page->token, offer_.token.data(), kTokenBytes);
  offer_.pid = getpid();
  offer_.start = process_start(offer_.pid);
  offer_.segment = memory_->slabs.find(slab).fd;
  offer_.inode = memory_->slabs.find(slab).inode;
  offer_.wake = wake_->writer();
  if (address.empty()) return;
  listener_.emplace(address, offer_.token);
  offer_.port = listener_->port();
}

GroupSeat::~GroupSeat() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void GroupSeat::join(std::vector<OfferedMember> members, int64_t timeout_ms, Group::Failed failed, Joined joined) {
  thread_ = std::thread([this, members = std::move(members), timeout_ms, failed = std::move(failed), joined = std::move(joined)] { meet(members, timeout_ms, failed, joined); });
}

void GroupSeat::meet(const std::vector<OfferedMember>& members, int64_t timeout_ms, const Group::Failed& failed, const Joined& joined) {
  std::shared_ptr<Group> group;
  std::string error;
  try {
    std::vector<std::unique_ptr<Link>> links = link_remote(members, steady_ms() + timeout_ms);
    Group::Facts facts{name_, rank_, {}};
    for (int rank = 0; rank < size_; ++rank) {
      const OfferedMember& member = members[static_cast<size_t>(rank)];
      facts.members.push_back(member.member);
      if (member.shared && rank != rank_) links[static_cast<size_t>(rank)] = link_shared(member, rank);
    }
    group = std::make_shared<Group>(std::move(facts), std::move(links), wake_, static_cast<MemberPage*>(memory_->segment), memory_, failed);
  } catch (const std::exception& failure) {
    error = failure.what();
  }
  listener_.reset();
  joined(std::move(group), error);
}

std::unique_ptr<Link> GroupSeat::link_shared(const OfferedMember& member, int rank) const {
  const SeatOffer& o = member.offer;
  try {
    return std::make_unique<SharedLink>(SharedLink::Peer{o.pid, o.start, o.segment, o.wake, o.inode, o.token}, plan_, memory_->segment, rank_, rank);
  } catch (const CodedError& error) {
    throw CodedError("ERR_COLLECTIVE", "rank " + std::to_string(rank) + " (" + member.member.name + " on host " + member.member.host + "): " + error.what());
  }
}

std::string GroupSeat::missing_text(const std::vector<OfferedMember>& members, const std::map<int, std::vector<Socket>>& met) const {
  std::string text;
  for (int rank = 0; rank < rank_; ++rank) {
    const OfferedMember& member = members[static_cast<size_t>(rank)];
    const auto found = met.find(rank);
    if (member.shared || (found != met.end() && found->second[0] && found->second[1])) continue;
    text += (text.empty() ? "waiting for rank " : ", rank ") + std::to_string(rank) + " (" + member.member.name + " on host " + member.member.host + ")";
  }
  return text;
}

std::vector<std::unique_ptr<Link>> GroupSeat::link_remote(const std::vector<OfferedMember>& members, int64_t until_ms) {
  std::vector<std::unique_ptr<Link>> links(members.size());
  std::map<int, std::vector<Socket>> met;
  std::vector<Token> tokens;
  for (const OfferedMember& member : members) tokens.push_back(member.offer.token);
  for (int rank = rank_ + 1; rank < size_; ++rank) {
    const OfferedMember& member = members[static_cast<size_t>(rank)];
    if (member.shared) continue;
    for (int channel = 0; channel < 2; ++channel)
      met[rank].push_back(connect_member(member.address, member.offer.port, member.offer.token, offer_.token, rank_, channel, until_ms, stop_));
  }
  while (!missing_text(members, met).empty()) {
    if (stop_ || steady_ms() >= until_ms) throw CodedError("ERR_DEADLINE", missing_text(members, met));
    for (Accepted& one : listener_->accept(50, tokens)) {
      if (one.rank >= rank_ || members[static_cast<size_t>(one.rank)].shared) continue;
      met[one.rank].resize(2);
      met[one.rank][static_cast<size_t>(one.channel)] = std::move(one.socket);
    }
  }
  for (auto& [rank, sockets] : met) links[static_cast<size_t>(rank)] = std::make_unique<SocketLink>(std::move(sockets[0]), std::move(sockets[1]));
  return links;
}

int64_t GroupTable::add(std::shared_ptr<Group> group) {
  std::lock_guard lock(mutex_);
  groups_.emplace(next_, std::move(group));
  return next_++;
}

std::shared_ptr<Group> GroupTable::find(int64_t number) const {
  std::lock_guard lock(mutex_);
  const auto found = groups_.find(number);
  if (found == groups_.end()) fail("group %lld is closed, or never was", static_cast<long long>(number));
  return found->second;
}

void GroupTable::leave(int64_t number) {
  std::shared_ptr<Group> closed;
  {
    std::lock_guard lock(mutex_);
    const auto found = groups_.find(number);
    if (found == groups_.end()) return;
    closed = std::move(found->second);
    groups_.erase(found);
  }
  closed->leave();
}

void GroupTable::clear() {
  std::map<int64_t, std::shared_ptr<Group>> closed;  // ends outside the lock
  std::lock_guard lock(mutex_);
  closed.swap(groups_);
}

void GroupTable::abort_all(const std::string& reason) {
  std::vector<std::shared_ptr<Group>> all;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [number, group] : groups_) all.push_back(group);
  }
  for (const auto& group : all) group->abort(reason);
}

GroupTable& group_table() {
  static GroupTable table;
  return table;
}
