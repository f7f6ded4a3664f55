// An image cut into square patches: x (B, C, S, S') -> y (B, P, C*p*p), P = (S/p)(S'/p) row-major over the page.
// The columns run over (channel, row, column): the order of a convolution weight (D, C, p, p) flattened, so that a linear
// layer over y is that convolution with stride p. backward is the inverse move. No aliasing.
#pragma once
#include <cstdint>

/// The sizes of an image batch and of its patches.
struct PatchGrid {
  int64_t batch, channels, height, width, patch;
  int64_t elements() const { return batch * channels * height * width; }
  int64_t rows() const { return height / patch; }
  int64_t cols() const { return width / patch; }
};

template <class T> void patchify_forward(const T* x, T* y, const PatchGrid& grid, int threads);
template <class T> void patchify_backward(const T* dy, T* dx, const PatchGrid& grid, int threads);

template <class T> void patchify_forward_reference(const T* x, T* y, const PatchGrid& grid);
template <class T> void patchify_backward_reference(const T* dy, T* dx, const PatchGrid& grid);
