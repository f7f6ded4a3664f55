// Facts about this machine and process.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

int host_cores();                     // cores this process may use
std::vector<std::string> host_isa();  // vector extensions that kernels have clones for, and those oneDNN profits from
bool host_openmp();

struct CudaInfo {
  bool compiled = false;
  int devices = 0;
  std::string note;  // why there are none, or what they are
};
CudaInfo cuda_info();

/// The kernel kills this process when its parent ends. `expected_parent` (0 = whoever it is now) closes the race in which
/// the parent is gone already.
void die_with_parent(int64_t expected_parent);
