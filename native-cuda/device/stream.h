// The CPU device: one thread that executes commands in program order, started by the first command.
// ST-1: `push` returns at once unless 65536 commands wait; only then does it block until one is done.
// ST-2: a command that throws makes its fault sticky: later kernels and copies are skipped, completions report the fault;
//       `clear` (from `configure`, on an idle stream) ends it. Memory is still released, actions still run.
// ST-3: a command counts as done (`pending`) before its completion is reported.
// ST-4: the thread lowers its own priority, and with it that of its OpenMP team, so that the event loop wins.
// ST-5: one thread pushes. While the stream has work neither side takes the lock.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "command.h"

class Stream {
 public:
  static constexpr size_t kCapacity = 65536;
  /// Called on the stream's thread.
  using Complete = std::function<void(uint64_t completion, const StreamFault* fault)>;

  explicit Stream(Complete complete) : complete_(std::move(complete)), ring_(kCapacity) {}
  ~Stream() { stop(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void push(Command command);
  /// Finishes the kernel that runs and joins the thread. What waits, and what is pushed later, never runs.
  void stop();
  size_t pending() const { return pushed_.load(std::memory_order_acquire) - done_.load(std::memory_order_acquire); }
  bool idle() const { return pending() == 0; }
  void clear() { fault_.reset(); }  // idle streams only

  // Read by the thread when a kernel starts; changed on idle streams only.
  int threads = 1;
  bool reference = false;
  bool guard = false;  // guard.h
  /// Called on the stream's thread when a fault becomes sticky.
  std::function<void(const StreamFault& fault)> on_fault;

 private:
  void run();
  bool wait_for_work(uint64_t index);
  void wait_for_room();
  void execute(Command& command);

  Complete complete_;
  std::vector<Command> ring_;
  std::atomic<uint64_t> pushed_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable work_, room_;
  std::atomic<bool> stop_{false};  // changed under the mutex
  std::atomic<bool> sleeps_{false}, wants_room_{false};  // who waits for whom: only then is there anybody to wake
  std::optional<StreamFault> fault_;
  std::thread thread_;
};
