// The plain matrix product: y (M, N) = op(a) (M, K) * op(b) (K, N), where op transposes its 2-D operand on request.
// Kernel: matmul [a, b, y], (transA, transB). y may not share memory with a or b.
// bf16 a and b are multiplied as such, summed in f32, and y, f32 or bf16, is rounded once.
#pragma once
#include <cstdint>

template <class T> void matmul_reference(const T* a, const T* b, T* y, bool ta, bool tb, int64_t M, int64_t N, int64_t K);
template <class In, class Out> void matmul(const In* a, const In* b, Out* y, bool ta, bool tb, int64_t M, int64_t N, int64_t K, int threads);
