// Which instruction sets this process may use. OCTAVO_ISA lowers the choice below what the machine has, in the one binary:
// avx512 (no AMX), avx2 (no AVX-512 either), baseline (x86-64-v2 alone). Read while the addon is being loaded.
// ISA-1: the clones of OCTAVO_CLONES, __builtin_cpu_supports in this addon and oneDNN all keep to the limit. libm chooses by itself.
// ISA-2: a value that this build cannot obey, or an unknown value, refuses the addon (ERR_NATIVE); nothing was computed before.
#pragma once
#include "clones.h"

enum class IsaLimit { none, avx512, avx2, baseline };

/// The limit asked for. Throws CodedError ERR_NATIVE for an unknown OCTAVO_ISA.
IsaLimit isa_limit();
/// "none", or the value of OCTAVO_ISA.
const char* isa_limit_name();
/// Which of the clones "avx512f", "avx2", "default" the hot loops run as.
#ifdef OCTAVO_CLONED
__attribute__((target("default"))) const char* isa_clone();
__attribute__((target("avx2"))) const char* isa_clone();
__attribute__((target("avx512f"))) const char* isa_clone();
#else
const char* isa_clone();
#endif
