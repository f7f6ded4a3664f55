#include "isa.h"

#include <cstdlib>
#include <cstring>

#include "fault.h"

namespace {
constexpr const char* kNames[] = {"none", "avx512", "avx2", "baseline"};

// Also called while the addon is being relocated: nothing here may need a static object or the C++ library.
// -1: no such name.
int wanted() {
  const char* set = std::getenv("OCTAVO_ISA");
  if (!set || !*set) return 0;
  for (int i = 1; i < 4; ++i)
    if (std::strcmp(set, kNames[i]) == 0) return i;
  return -1;
}

int limit() {
  static const int once = wanted();
  if (once < 0)
    throw CodedError("ERR_NATIVE", format("OCTAVO_ISA expected avx512, avx2 or baseline, got \"%s\". Leave it out for all that the machine has.",
                                          std::getenv("OCTAVO_ISA")));
#ifndef OCTAVO_CLONED
  if (once > 0)
    throw CodedError("ERR_NATIVE", "OCTAVO_ISA has nothing to hold back in this build: versions of one loop need x86-64 and the GNU C library. Leave it out.");
#endif
  return once;
}
}  // namespace

IsaLimit isa_limit() { return static_cast<IsaLimit>(limit()); }
const char* isa_limit_name() { return kNames[limit()]; }

#ifdef OCTAVO_CLONED
// Versions of one function: the same resolver as that of OCTAVO_CLONES says which it chose.
__attribute__((target("default"))) const char* isa_clone() { return "default"; }
__attribute__((target("avx2"))) const char* isa_clone() { return "avx2"; }
__attribute__((target("avx512f"))) const char* isa_clone() { return "avx512f"; }

// The facts of libgcc (or compiler-rt) that the resolvers of target_clones and __builtin_cpu_supports look at; this addon has its own copy.
// Numbers of bits: enum processor_features of gcc/common/config/i386/i386-cpuinfo.h, never renumbered.
extern "C" {
struct CpuModel {
  unsigned vendor, type, subtype, features;
};
extern CpuModel __cpu_model __attribute__((visibility("hidden")));
extern unsigned __cpu_features2[] __attribute__((visibility("hidden")));
int __real___cpu_indicator_init();
int __wrap___cpu_indicator_init();
}

namespace {
constexpr unsigned bits(int first, int last) { return (last == 31 ? ~0u : (1u << (last + 1)) - 1) & ~((1u << first) - 1); }

constexpr unsigned kAvx512 = bits(15, 15) | bits(20, 31), kAvx512More = bits(2, 5);  // F; VL to VBMI2; VNNI, BITALG, BF16, VP2INTERSECT
constexpr unsigned kAvx = bits(9, 10) | bits(12, 14) | bits(16, 17);                 // AVX, AVX2; FMA4, XOP, FMA; BMI, BMI2
constexpr unsigned kAvxMore = bits(1, 1) | bits(17, 17);                             // VPCLMULQDQ, F16C
constexpr unsigned kAmx = bits(21, 23), kFp16 = bits(30, 30), kAvxLast = bits(14, 14) | bits(29, 29);  // third word; VAES, AVX-VNNI
}  // namespace

// The linker puts this in the place of __cpu_indicator_init (--wrap), which every resolver calls before it looks. Resolvers run in
// the middle of relocation, several times; the C library is ready by then, since it belongs to the program that loads us.
extern "C" __attribute__((no_sanitize("address", "undefined"))) int __wrap___cpu_indicator_init() {
  const int result = __real___cpu_indicator_init(), asked = wanted();
  unsigned third = 0;
  if (asked >= static_cast<int>(IsaLimit::avx512)) third |= kAmx;
  if (asked >= static_cast<int>(IsaLimit::avx2)) __cpu_model.features &= ~kAvx512, __cpu_features2[0] &= ~kAvx512More, third |= kFp16;
  if (asked >= static_cast<int>(IsaLimit::baseline)) __cpu_model.features &= ~kAvx, __cpu_features2[0] &= ~kAvxMore, third |= kAvxLast;
#if defined(__clang__) || __GNUC__ >= 11
  __cpu_features2[1] &= ~third;  // older compilers know a single word more, and no AMX
#endif
  return result;
}
#else
const char* isa_clone() { return "default"; }
#endif
