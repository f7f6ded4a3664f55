#include "registry.h"

#include <cstring>
#include <deque>

namespace {
struct Entry {
  const char* name;
  KernelFn fn;
};

// A function's static: registrations run during static initialisation, in no particular order of files.
std::deque<Entry>& entries() {
  static std::deque<Entry> all;
  return all;
}
}  // namespace

KernelRegistration::KernelRegistration(const char* name, KernelFn fn) { entries().push_back({name, fn}); }

int find_kernel(const char* name) {
  for (size_t i = 0; i < entries().size(); ++i)
    if (std::strcmp(entries()[i].name, name) == 0) return static_cast<int>(i);
  return -1;
}

const char* kernel_name(int index) { return entries()[static_cast<size_t>(index)].name; }
KernelFn kernel_function(int index) { return entries()[static_cast<size_t>(index)].fn; }
int kernel_count() { return static_cast<int>(entries().size()); }
