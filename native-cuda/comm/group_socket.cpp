#include "group_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "../common/fault.h"

namespace {
constexpr char kMagic[8] = {'o', 'c', 't', 'a', 'v', 'o', 'g', '1'};
constexpr size_t kInbox = size_t{256} << 10;
constexpr int64_t kGreetingMs = 5000;
constexpr int kPieces = 64;

struct Greeting {
  char magic[8];
  uint32_t rank, channel;
  unsigned char token[kTokenBytes];
};

bool same_token(const void* a, const void* b) {
  unsigned char different = 0;
  for (size_t i = 0; i < kTokenBytes; ++i) different |= static_cast<const unsigned char*>(a)[i] ^ static_cast<const unsigned char*>(b)[i];
  return different == 0;
}

[[noreturn]] void refuse(const char* what, const std::string& address, const char* why) {
  throw CodedError("ERR_COLLECTIVE", format("%s %s: %s", what, address.c_str(), why));
}

struct Addresses {
  addrinfo* first = nullptr;
  Addresses(const char* what, const std::string& address, int port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    const int failed = getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &first);
    if (failed) refuse(what, address, gai_strerror(failed));
  }
  ~Addresses() { freeaddrinfo(first); }
  Addresses(const Addresses&) = delete;
};

void tune(int fd) {
  const auto set = [fd](int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 4), set(IPPROTO_TCP, TCP_KEEPINTVL, 2), set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 10000);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/// Waits for `events` on a descriptor in short steps. False: the time is over, or we were told to stop.
bool wait_for(int fd, short events, int64_t until_ms, const std::atomic<bool>& stop) {
  while (!stop && steady_ms() < until_ms) {
    pollfd one{fd, events, 0};
    if (poll(&one, 1, 50) > 0) return true;
  }
  return false;
}
}  // namespace

int64_t steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

Listener::Listener(const std::string& address, Token token) : token_(std::move(token)) {
  const Addresses found("offerGroup: listening at", address, 0);
  socket_ = Socket(::socket(found.first->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_ || bind(socket_.fd(), found.first->ai_addr, found.first->ai_addrlen) != 0 || listen(socket_.fd(), 256) != 0)
    refuse("offerGroup: listening at", address, std::strerror(errno));
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  getsockname(socket_.fd(), reinterpret_cast<sockaddr*>(&bound), &length);
  port_ = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
}

/// True: this guest is done with, taken or hung up on. A greeting of 32 bytes comes in one piece or the guest is asked again.
bool Listener::greet(Guest& guest, const std::vector<Token>& tokens, std::vector<Accepted>& accepted) {
  Greeting greeting;
  const ssize_t got = recv(guest.socket.fd(), &greeting, sizeof greeting, MSG_PEEK);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return steady_ms() - guest.since_ms > kGreetingMs;
  if (got <= 0) return true;
  if (got < static_cast<ssize_t>(sizeof greeting)) return steady_ms() - guest.since_ms > kGreetingMs;
  recv(guest.socket.fd(), &greeting, sizeof greeting, 0);
  if (std::memcmp(greeting.magic, kMagic, sizeof kMagic) != 0 || !same_token(greeting.token, token_.data()) || greeting.rank >= tokens.size() || greeting.channel > 1) return true;
  const Token& answer = tokens[greeting.rank];
  if (::send(guest.socket.fd(), answer.data(), answer.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(answer.size()))
    accepted.push_back({static_cast<int>(greeting.rank), static_cast<int>(greeting.channel), std::move(guest.socket)});
  return true;
}

std::vector<Accepted> Listener::accept(int wait_ms, const std::vector<Token>& tokens_by_rank) {
  std::vector<pollfd> events{{socket_.fd(), POLLIN, 0}};
  for (const Guest& guest : guests_) events.push_back({guest.socket.fd(), POLLIN, 0});
  poll(events.data(), events.size(), wait_ms);
  for (;;) {
    Socket guest(accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!guest) break;
    tune(guest.fd());
    guests_.push_back({std::move(guest), steady_ms()});
  }
  std::vector<Accepted> accepted;
  std::vector<Guest> waiting;
  for (Guest& guest : guests_)
    if (!greet(guest, tokens_by_rank, accepted)) waiting.push_back(std::move(guest));
  guests_ = std::move(waiting);
  return accepted;
}

Socket connect_member(const std::string& address, int port, const Token& theirs, const Token& own, int own_rank, int channel, int64_t until_ms, const std::atomic<bool>& stop) {
  const std::string place = address + " port " + std::to_string(port);
  const Addresses found("joinGroup: connecting to", address, port);
  Socket socket(::socket(found.first->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) refuse("joinGroup: connecting to", place, std::strerror(errno));
  tune(socket.fd());
  if (connect(socket.fd(), found.first->ai_addr, found.first->ai_addrlen) != 0 && errno != EINPROGRESS) refuse("joinGroup: connecting to", place, std::strerror(errno));
  if (!wait_for(socket.fd(), POLLOUT, until_ms, stop)) refuse("joinGroup: connecting to", place, "no answer in time");
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error) refuse("joinGroup: connecting to", place, std::strerror(error));
  Greeting greeting{};
  std::memcpy(greeting.magic, kMagic, sizeof kMagic);
  greeting.rank = static_cast<uint32_t>(own_rank), greeting.channel = static_cast<uint32_t>(channel);
  std::memcpy(greeting.token, theirs.data(), kTokenBytes);
  if (::send(socket.fd(), &greeting, sizeof greeting, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof greeting)) refuse("joinGroup: greeting", place, std::strerror(errno));
  unsigned char answer[kTokenBytes];
  for (size_t got = 0; got < sizeof answer;) {
    if (!wait_for(socket.fd(), POLLIN, until_ms, stop)) refuse("joinGroup: greeting", place, "no answer in time");
    const ssize_t n = recv(socket.fd(), answer + got, sizeof answer - got, 0);
    if (n > 0) got += static_cast<size_t>(n);
    else if (n == 0) refuse("joinGroup: greeting", place, "it hung up: the token was wrong, or it stopped waiting");
    else if (errno != EAGAIN && errno != EINTR) refuse("joinGroup: greeting", place, std::strerror(errno));
  }
  if (!same_token(answer, own.data())) refuse("joinGroup: greeting", place, "whoever listens there is not the member that made the offer");
  return socket;
}

SocketLink::SocketLink(Socket data, Socket word) : data_(std::move(data)), word_(std::move(word)), memory_(kInbox), inbox_(&control_, memory_.data(), kInbox) {}

size_t SocketLink::write(const Region& region, size_t done) {
  size_t taken = 0;
  while (!ended_ && done + taken < region.bytes) {
    iovec pieces[kPieces];
    size_t count = 0, asked = 0;
    while (count < kPieces && done + taken + asked < region.bytes) {
      const Piece piece = region.at(done + taken + asked);
      pieces[count++] = {piece.data, piece.bytes};
      asked += piece.bytes;
    }
    msghdr message{};
    message.msg_iov = pieces, message.msg_iovlen = count;
    const ssize_t sent = sendmsg(data_.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno != EAGAIN && errno != EINTR) ended_ = true, why_ended_ = std::strerror(errno);
      break;
    }
    taken += static_cast<size_t>(sent);
    if (static_cast<size_t>(sent) < asked) break;
  }
  return taken;
}

Piece SocketLink::readable(size_t wanted) {
  while (!ended_ && inbox_.buffered() < wanted) {
    const Piece room = inbox_.writable();
    const ssize_t got = recv(data_.fd(), room.data, room.bytes, MSG_DONTWAIT);
    if (got > 0) {
      inbox_.produce(static_cast<size_t>(got));
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      if (got < 0) why_ended_ = std::strerror(errno);
      ended_ = true;
    } else {
      break;
    }
  }
  return inbox_.readable();
}

void SocketLink::consume(size_t bytes) { inbox_.consume(bytes); }

/// One line each: "left", or "gave up " and why.
void SocketLink::hear() {
  char text[512];
  while (!word_ended_) {
    const ssize_t got = recv(word_.fd(), text, sizeof text, MSG_DONTWAIT);
    if (got > 0) heard_.append(text, static_cast<size_t>(got));
    else if (got == 0 || (errno != EAGAIN && errno != EINTR)) word_ended_ = true;
    else break;
  }
  if (heard_.size() > 4096) word_ended_ = true;
  const size_t line = heard_.find('\n');
  if (line == std::string::npos) return;
  if (heard_.rfind("gave up ", 0) == 0) reason_ = heard_.substr(8, line - 8);
  else left_ = true;
  heard_.erase(0, line + 1);
}

std::optional<std::string> SocketLink::gave_up() {
  hear();
  return reason_;
}

std::optional<std::string> SocketLink::gone() {
  hear();
  if (left_) return "it has left the group";
  if (ended_ || word_ended_) return why_ended_ + ": its process or host has ended";
  return std::nullopt;
}

void SocketLink::announce(const std::string* reason) {
  std::string line = reason ? "gave up " + reason->substr(0, 1000) : "left";
  for (char& c : line)
    if (c == '\n') c = ' ';
  line += '\n';
  [[maybe_unused]] const ssize_t sent = ::send(word_.fd(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);  // a peer that is gone needs no word
}

void SocketLink::watch(std::vector<pollfd>& events, bool reads, bool writes) {
  if (!word_ended_) events.push_back({word_.fd(), POLLIN, 0});
  const short wanted = static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0));
  if (wanted && !ended_) events.push_back({data_.fd(), wanted, 0});
}
