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
#include "pool.h"
#include "program.h"
#include "stamps.h"

namespace {
constexpr int kNicer = 5;

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

void Stream::push(Command command) {
  std::unique_lock lock(mutex_);
  if (stop_) return;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  room_.wait(lock, [this] { return pending() < kCapacity; });
  const uint64_t index = pushed_.load(std::memory_order_relaxed);
  command.sequence = index + 1;
  ring_[index % kCapacity] = std::move(command);
  pushed_.store(index + 1, std::memory_order_release);
  lock.unlock();
  work_.notify_one();
}

void Stream::run() {
  prepare_thread();
  for (;;) {
    const uint64_t index = done_.load(std::memory_order_relaxed);
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [&] { return stop_ || pushed_.load(std::memory_order_relaxed) != index; });
      if (stop_) return;
    }
    Command command = std::move(ring_[index % kCapacity]);
    execute(command);
    const std::optional<StreamFault> fault = command.completion ? fault_ : std::nullopt;  // ours: `clear` may come next
    {
      std::lock_guard lock(mutex_);
      done_.store(index + 1, std::memory_order_release);
    }
    room_.notify_one();
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
