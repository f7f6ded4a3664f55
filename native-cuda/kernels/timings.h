// Where the time of a program goes: what each kernel took, by its operands. Off unless asked for.
// TI-1: off, a kernel call costs one load of a flag more. On, it costs about three microseconds more.
// TI-2: bytes are the operands' own, each once, whatever the kernel reads of them.
// Written on the thread that runs kernels; `timings_switch` and `timings_rows` are for an idle stream.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "registry.h"

struct TimingRow {
  std::string kernel, operands;  // operands: "f32 (2, 3), f32 (3)", at most four
  int64_t calls;
  double milliseconds, cpu, bytes;  // by the clock; of the calling thread alone
};

extern std::atomic<bool> timings_on;
/// On or off; either way the table is empty then.
void timings_switch(bool on);
/// The largest time first.
std::vector<TimingRow> timings_rows();
void timings_add(const char* kernel, const KernelCall& call, double milliseconds, double cpu);
