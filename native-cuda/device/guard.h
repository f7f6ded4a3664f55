// The watch over numbers, opt-in (OCTAVO_GUARD=1, configure({ guard: true })): the command that makes the first NaN or infinity stops the
// stream and is named, instead of a loss that is NaN some hundred commands later. Costs two readings of every operand per kernel.
// GU-1: after a kernel, every f64, f32 and bf16 operand is looked at; a NaN or +Infinity that was not there before is a fault that names
//       kernel, operand, position and value, and says whether the inputs were finite. What was there before is not its doing.
// GU-2: -Infinity is a fault too, unless it was asked for or has a meaning: an operand held one before (a mask moves on; the NaN that
//       comes of a row of nothing else is a fault), `fill`, and the statistics of nothing: logsumexp of no elements, lse of a query
//       that sees no key. log 0 is a fault: it is what one turns the guard on for.
// GU-3: uploads and what a peer wrote are checked on arrival and called by what they are: from outside. -Infinity is let in.
// GU-4: memory handed out while the guard is on is filled with small finite numbers first, so what was never written raises no alarm.
#pragma once
#include "../kernels/registry.h"

/// OCTAVO_GUARD. Throws CodedError ERR_NATIVE unless it is 1, 0 or not set.
bool guard_from_environment();
/// run_kernel, watched. Throws Fault.
void guard_run(int kernel, const KernelCall& call);
/// Throws Fault naming `what` brought the tensor in.
void guard_outside(const char* what, const TensorView& tensor);
/// Finite as f64, f32, bf16 and f16, and not zero.
void guard_fill(void* data, size_t bytes);
