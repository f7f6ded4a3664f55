// Vector code for the machine at hand; the plain one everywhere else. For free functions that hold a hot loop.
#pragma once

// The loader chooses: that takes ifunc, which musl has not (there, as on other processors, loops are compiled once, for the base).
#if defined(__x86_64__) && defined(__gnu_linux__)
#define OCTAVO_CLONED
#define OCTAVO_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define OCTAVO_CLONES
#endif
