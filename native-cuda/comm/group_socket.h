// The link between members of two hosts: two TCP connections, one for bytes and one for word of giving up or leaving, so that such
// word is never stuck behind a tensor.
// GS-1: a listener takes a connection only from who presents its token, compared in constant time, and answers with the token of the one
//       that connects; everybody else is hung up on, and the listener goes on. Nothing is encrypted.
// GS-2: a peer whose host is gone is noticed by keep-alive within about ten seconds; a killed process at once.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "group_memory.h"

/// A descriptor that closes itself.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();
  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

/// What is heard at a listener: who connected for which of its two channels.
struct Accepted {
  int rank = 0, channel = 0;
  Socket socket;
};

class Listener {
 public:
  /// Bound to this address alone, at a port of the system's choice. Throws CodedError ERR_COLLECTIVE.
  Listener(const std::string& address, Token token);
  int port() const { return port_; }
  int fd() const { return socket_.fd(); }
  /// The connections whose greeting is complete and right; waits at most `wait_ms` for something to happen.
  std::vector<Accepted> accept(int wait_ms, const std::vector<Token>& tokens_by_rank);

 private:
  struct Guest {
    Socket socket;
    int64_t since_ms = 0;
  };
  bool greet(Guest& guest, const std::vector<Token>& tokens, std::vector<Accepted>& accepted);

  Token token_;
  Socket socket_;
  int port_ = 0;
  std::vector<Guest> guests_;
};

/// Connects and greets; the answer proves that the listener knows `own`. Stops early when `stop` is set. Throws CodedError ERR_COLLECTIVE.
Socket connect_member(const std::string& address, int port, const Token& theirs, const Token& own, int own_rank, int channel, int64_t until_ms, const std::atomic<bool>& stop);

class SocketLink final : public Link {
 public:
  SocketLink(Socket data, Socket word);

  size_t write(const Region& region, size_t done) override;
  Piece readable(size_t wanted) override;
  void consume(size_t bytes) override;
  std::optional<std::string> gave_up() override;
  std::optional<std::string> gone() override;
  void announce(const std::string* reason) override;
  void watch(std::vector<pollfd>& events, bool reads, bool writes) override;

 private:
  void hear();

  Socket data_, word_;
  RingControl control_;
  std::vector<unsigned char> memory_;
  Ring inbox_;
  bool ended_ = false, left_ = false;  // no more bytes; and it said so
  std::string heard_, why_ended_ = "it closed the connection";
  std::optional<std::string> reason_;
  bool word_ended_ = false;
};

int64_t steady_ms();
