// Vector code for the machine at hand; the plain one everywhere else. For free functions that hold a hot loop.
#pragma once

#if defined(__x86_64__) && defined(__gnu_linux__)
#define OCTAVO_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define OCTAVO_CLONES
#endif
