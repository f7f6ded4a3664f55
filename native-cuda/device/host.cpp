#include "host.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "../common/fault.h"

#ifdef OCTAVO_CUDA
CudaInfo cuda_device_info();  // device/cuda_info.cu
#endif

int host_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());  // more than 1024 cores: the set does not fit
}

std::vector<std::string> host_isa() {
  std::vector<std::string> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
#define OCTAVO_ISA(name) \
  if (__builtin_cpu_supports(name)) found.emplace_back(name)
  OCTAVO_ISA("sse4.2");
  OCTAVO_ISA("avx2");
  OCTAVO_ISA("fma");
  OCTAVO_ISA("avx512f");
  OCTAVO_ISA("avx512bw");
#undef OCTAVO_ISA
  // Spelt as /proc/cpuinfo does; AMX counts only where the system lets processes use its tiles.
  if (__builtin_cpu_supports("avx512bf16")) found.emplace_back("avx512_bf16");
  if (__builtin_cpu_supports("amx-bf16")) found.emplace_back("amx_bf16");
#endif
  return found;
}

bool host_openmp() {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}

CudaInfo cuda_info() {
#ifdef OCTAVO_CUDA
  return cuda_device_info();
#else
  return {false, 0, "built without a CUDA compiler"};
#endif
}

void die_with_parent(int64_t expected_parent) {
  const pid_t before = getppid();
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) throw CodedError("ERR_NATIVE", format("dieWithParent: prctl: %s", std::strerror(errno)));
  const pid_t now = getppid();
  if (now != before || (expected_parent && now != expected_parent)) raise(SIGKILL);
}
