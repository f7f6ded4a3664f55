// Every kernel registers itself under the name that TypeScript asks for. One line opens an entry:
//   OCTAVO_KERNEL(scale) { ... call[0] is x, call[1] is y, call.scalar[0] the factor ... }
// Dispatch inside an entry: f64 tensors, or call.reference, run x_reference<T>; f32 runs the fast version.
#pragma once
#include "../common/fault.h"
#include "../common/tensor_view.h"

struct KernelCall {
  const TensorView* tensor;  // operands in the order of the kernel's contract; absent ones are false
  int tensors;
  const double* scalar;
  int scalars;
  int threads;     // size of the OpenMP team, >= 1
  bool reference;  // the plain twin was asked for

  const TensorView& operator[](int i) const { return tensor[i]; }
  /// Plain arithmetic wanted for an operation whose main operand is `t`?
  bool plain(const TensorView& t) const { return reference || t.dtype == DType::f64; }
};

using KernelFn = void (*)(const KernelCall&);

struct KernelRegistration {
  KernelRegistration(const char* name, KernelFn fn);
};

/// Index of a kernel, or -1. Indices are stable within a process.
int find_kernel(const char* name);
const char* kernel_name(int index);
KernelFn kernel_function(int index);
int kernel_count();

#define OCTAVO_KERNEL(name)                                                              \
  static void octavo_kernel_##name(const KernelCall& call);                              \
  static const KernelRegistration octavo_registration_##name(#name, octavo_kernel_##name); \
  static void octavo_kernel_##name([[maybe_unused]] const KernelCall& call)
