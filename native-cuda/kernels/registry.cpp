#include "registry.h"

#include <cstring>
#include <ctime>
#include <deque>

#include "timings.h"
#include "widening.h"

namespace {
struct Entry {
  const char* name;
  KernelFn fn;
  OwnBf16 own;
};

// A function's static: registrations run during static initialisation, in no particular order of files.
std::deque<Entry>& entries() {
  static std::deque<Entry> all;
  return all;
}
}  // namespace

KernelRegistration::KernelRegistration(const char* name, KernelFn fn, OwnBf16 own) { entries().push_back({name, fn, own}); }

bool OwnBf16::takes(const KernelCall& call) const {
  bool some = false, others = false, all = true;
  for (int i = 0; i < call.tensors; ++i) {
    if (!call[i]) continue;
    const bool is = call[i].dtype == DType::bf16;
    const bool wanted = i < 32 ? positions_ >> i & 1 : positions_ == ~0u;  // calls for many parameters have hundreds of operands
    some = some || is, others = others || (is && !wanted), all = all && (is || !wanted);
  }
  return !some || (!call.reference && !others && (all || !together_));
}

int find_kernel(const char* name) {
  for (size_t i = 0; i < entries().size(); ++i)
    if (std::strcmp(entries()[i].name, name) == 0) return static_cast<int>(i);
  return -1;
}

const char* kernel_name(int index) { return entries()[static_cast<size_t>(index)].name; }

static void run_entry(const Entry& entry, const KernelCall& call) {
  if (entry.own.takes(call)) entry.fn(call);
  else run_widened(entry.fn, call);
}

static double milliseconds_of(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

void run_kernel(int index, const KernelCall& call) {
  const Entry& entry = entries()[static_cast<size_t>(index)];
  if (!timings_on.load(std::memory_order_relaxed)) return run_entry(entry, call);
  const double clock = milliseconds_of(CLOCK_MONOTONIC), cpu = milliseconds_of(CLOCK_THREAD_CPUTIME_ID);
  run_entry(entry, call);
  timings_add(entry.name, call, milliseconds_of(CLOCK_MONOTONIC) - clock, milliseconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu);
}

int kernel_count() { return static_cast<int>(entries().size()); }
