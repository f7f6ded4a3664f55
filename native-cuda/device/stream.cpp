#include "stream.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <exception>

#include "../kernels/registry.h"
#include "guard.h"
#include "host.h"
#include "pool.h"
#include "program.h"
#include "stamps.h"

namespace {
constexpr int kNicer = 5;
constexpr int kTurns = 500;  // before sleeping, about 10 us: an op call is sooner there than a sleeping thread is awake

void spin() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void prepare_thread() {
  pthread_setname_np(pthread_self(), "octavo-stream");
  const id_t self = static_cast<id_t>(gettid());
  setpriority(PRIO_PROCESS, self, getpriority(PRIO_PROCESS, self) + kNicer);  // lowering one's own is always allowed
#ifdef _OPENMP
  // Teams are sized by each kernel; whatever a library would open by itself gets one thread (thread-invariant bits).
  omp_set_max_active_levels(1);
  omp_set_num_threads(1);
#endif
}
}  // namespace

void Stream::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

// Of a flag and a counter, each side writes its own first and reads the other's after that, in one order for all: at least one of
// them sees what the other did. The lock lets a waiter that has just looked go to sleep before it is woken.
void Stream::push(Command command) {
  if (stop_) return;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  if (pending() >= kCapacity) wait_for_room();
  const uint64_t index = pushed_.load(std::memory_order_relaxed);
  command.sequence = index + 1;
  ring_[index % kCapacity] = std::move(command);
  pushed_.store(index + 1);
  if (!sleeps_.load()) return;
  { std::lock_guard lock(mutex_); }
  work_.notify_one();
}

void Stream::wait_for_room() {
  std::unique_lock lock(mutex_);
  wants_room_ = true;
  room_.wait(lock, [this] { return pushed_.load() - done_.load() < kCapacity; });
  wants_room_ = false;
}

/// False when the stream stops.
bool Stream::wait_for_work(uint64_t index) {
  static const int turns = host_cores() > 1 ? kTurns : 0;
  for (int turn = 0; turn < turns && pushed_.load(std::memory_order_acquire) == index && !stop_; ++turn) spin();
  if (pushed_.load(std::memory_order_acquire) == index) {
    std::unique_lock lock(mutex_);
    sleeps_ = true;
    work_.wait(lock, [&] { return stop_ || pushed_.load() != index; });
    sleeps_ = false;
  }
  return !stop_;
}

void Stream::run() {
  prepare_thread();
  for (;;) {
    const uint64_t index = done_.load(std::memory_order_relaxed);
    if (!wait_for_work(index)) return;
    Command command = std::move(ring_[index % kCapacity]);
    execute(command);
    const std::optional<StreamFault> fault = command.completion ? fault_ : std::nullopt;  // ours: `clear` may come next
    done_.store(index + 1);
    if (wants_room_.load()) {
      { std::lock_guard lock(mutex_); }
      room_.notify_one();
    }
    if (command.completion) complete_(command.completion, fault ? &*fault : nullptr);
  }
}

void Stream::execute(Command& command) {
  if (command.kind == Command::Kind::release) return Pool::unmap(command.target, command.bytes);
  if (command.kind == Command::Kind::unmap) return void(munmap(command.target, command.bytes));
  if (command.kind == Command::Kind::stamp) return void(*static_cast<int64_t*>(command.target) = Stamps::now());
  if (command.kind == Command::Kind::action) return command.action(command.argument);
  if (fault_ || command.kind == Command::Kind::fence) return;
  const char* running = command.name;
  try {
    if (command.kind == Command::Kind::copy) {
      if (command.bytes) std::memcpy(command.target, command.source, command.bytes);
    } else if (command.kind == Command::Kind::replay) {
      command.program->run(reinterpret_cast<void* const*>(command.payload.get()), threads, reference, guard, stop_, running);
    } else if (command.kind == Command::Kind::check) {
      guard_outside(command.name, *command.views());
    } else if (command.kind == Command::Kind::fill) {
      guard_fill(command.target, command.bytes);
    } else {
      (guard ? guard_run : run_kernel)(command.kernel, {command.views(), command.tensors, command.values(), command.scalars, threads, reference});
    }
  } catch (const std::exception& error) {
    const auto* fault = dynamic_cast<const Fault*>(&error);
    fault_ = StreamFault{running, error.what(), fault ? fault->code : "ERR_DEVICE", command.sequence};
    if (on_fault) on_fault(*fault_);
  }
}
