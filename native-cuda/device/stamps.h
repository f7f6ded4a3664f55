// When the stream got somewhere: a stamp is a command that writes down the time at which it is reached.
// SP-1: times are nanoseconds of the system's monotonic clock (CLOCK_MONOTONIC), which is one for all processes of a host, and `process.hrtime`.
// SP-2: a stamp is reached also after a fault. Taken on an idle stream only, when all are reached.
#pragma once
#include <cstdint>
#include <ctime>
#include <deque>
#include <utility>

class Stamps {
 public:
  /// Where the next time goes; stays valid until `take`.
  int64_t* next() { return &times_.emplace_back(0); }
  size_t size() const { return times_.size(); }
  std::deque<int64_t> take() { return std::exchange(times_, {}); }

  static int64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
  }

 private:
  std::deque<int64_t> times_;
};
