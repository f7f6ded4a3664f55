// The one way by which kernels without bf16 code of their own take bf16 operands (decision N-5).
// WI-1: the kernel sees f32: every bf16 operand is widened into scratch, and all of them are narrowed back when it returns. What
//       it did not write comes back with the same bits. When it throws, nothing is written back.
// WI-2: two operands of one memory share scratch, so aliasing that the kernel allows keeps its meaning. Absent stay absent.
// WI-3: scratch belongs to the thread, serves every call, and stays as large as the largest call made it.
#pragma once
#include "registry.h"

void run_widened(KernelFn kernel, const KernelCall& call);
