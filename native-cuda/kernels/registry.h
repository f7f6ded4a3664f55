// Every kernel registers itself under the name that TypeScript asks for. One line opens an entry:
//   OCTAVO_KERNEL(scale) { ... call[0] is x, call[1] is y, call.scalar[0] the factor ... }
// Dispatch inside an entry: f64 tensors, or call.reference, run x_reference<T>; f32 runs the fast version.
//
// bf16. An entry opened by OCTAVO_KERNEL never sees it: its bf16 operands arrive as f32 (widened into scratch) and are rounded
// to bf16 when it returns, so f32 and bf16 mix freely, in reference mode too (widening.h, decision N-5).
// A kernel with code of its own for bf16 says for which operands, by their positions:
//   OCTAVO_KERNEL_BF16(scale, OwnBf16::operands(0, 1)) { ... each of x and y may be bf16 ... }
// It is then called directly; when any other operand is bf16 too, the call comes widened.
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

/// The operands for which a kernel has bf16 code of its own.
class OwnBf16 {
 public:
  static constexpr OwnBf16 none() { return {0, false}; }
  /// Any of these.
  template <class... I> static constexpr OwnBf16 operands(I... positions) { return {((1u << positions) | ...), false}; }
  static constexpr OwnBf16 any() { return {~0u, false}; }
  /// These all at once, or none of them: moves of elements, which need not know what they move.
  template <class... I> static constexpr OwnBf16 together(I... positions) { return {((1u << positions) | ...), true}; }
  static constexpr OwnBf16 all() { return {~0u, true}; }

  /// Does the kernel take the call as it is? A call without bf16 always; in reference mode none with it.
  bool takes(const KernelCall& call) const;

 private:
  constexpr OwnBf16(unsigned positions, bool together) : positions_(positions), together_(together) {}
  unsigned positions_;
  bool together_;
};

struct KernelRegistration {
  KernelRegistration(const char* name, KernelFn fn, OwnBf16 own);
};

/// Index of a kernel, or -1. Indices are stable within a process.
int find_kernel(const char* name);
const char* kernel_name(int index);
/// Runs a kernel on the calling thread, bf16 operands included.
void run_kernel(int index, const KernelCall& call);
int kernel_count();

#define OCTAVO_KERNEL(name) OCTAVO_KERNEL_BF16(name, OwnBf16::none())
#define OCTAVO_KERNEL_BF16(name, own)                                                           \
  static void octavo_kernel_##name(const KernelCall& call);                                     \
  static const KernelRegistration octavo_registration_##name(#name, octavo_kernel_##name, own); \
  static void octavo_kernel_##name([[maybe_unused]] const KernelCall& call)
