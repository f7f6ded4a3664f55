// softmax.h on the GPU: one block per row. Sums go lane by lane, then warp by warp in a fixed tree: repeatable bits.
#include <cfloat>

#include "../device/cuda.h"
#include "registry.h"
#include "softmax.h"

namespace {
constexpr int kBlock = 256, kWarp = 32;

struct Largest {
  __device__ static float identity() { return -FLT_MAX; }
  __device__ static float join(float a, float b) { return fmaxf(a, b); }
};
struct Sum {
  __device__ static float identity() { return 0.0f; }
  __device__ static float join(float a, float b) { return a + b; }
};

/// Every thread of the block gets the joined value.
template <class Op> __device__ float block_reduce(float value) {
  __shared__ float warps[kBlock / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value = Op::join(value, __shfl_xor_sync(0xffffffffu, value, offset));
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = Op::identity();
  for (int warp = 0; warp < kBlock / kWarp; ++warp) value = Op::join(value, warps[warp]);
  __syncthreads();  // the next reduction writes `warps` again
  return value;
}

__global__ void softmax_forward_kernel(const float* x, float* y, int64_t cols) {
  x += blockIdx.x * cols, y += blockIdx.x * cols;
  float peak = Largest::identity(), total = 0.0f;
  for (int64_t c = threadIdx.x; c < cols; c += kBlock) peak = fmaxf(peak, x[c]);
  peak = block_reduce<Largest>(peak);
  for (int64_t c = threadIdx.x; c < cols; c += kBlock) total += expf(x[c] - peak);
  total = block_reduce<Sum>(total);
  for (int64_t c = threadIdx.x; c < cols; c += kBlock) y[c] = expf(x[c] - peak) / total;
}

__global__ void softmax_backward_kernel(const float* dy, const float* y, float* dx, int64_t cols) {
  dy += blockIdx.x * cols, y += blockIdx.x * cols, dx += blockIdx.x * cols;
  float dot = 0.0f;
  for (int64_t c = threadIdx.x; c < cols; c += kBlock) dot += dy[c] * y[c];
  dot = block_reduce<Sum>(dot);
  for (int64_t c = threadIdx.x; c < cols; c += kBlock) dx[c] = y[c] * (dy[c] - dot);
}
}  // namespace

void softmax_forward_cuda(const float* x, float* y, int64_t rows, int64_t cols, const CudaStream& stream) {
  if (rows == 0 || cols == 0) return;  // a grid of size zero is a launch error
  softmax_forward_kernel<<<static_cast<unsigned>(rows), kBlock, 0, stream.get()>>>(x, y, cols);
  CUDA_CHECK_LAUNCH("softmax_forward");
}

void softmax_backward_cuda(const float* dy, const float* y, float* dx, int64_t rows, int64_t cols, const CudaStream& stream) {
  if (rows == 0 || cols == 0) return;
  softmax_backward_kernel<<<static_cast<unsigned>(rows), kBlock, 0, stream.get()>>>(dy, y, dx, cols);
  CUDA_CHECK_LAUNCH("softmax_backward");
}

// The twins on tensors of the CPU stream, copied there and back: what the test of agreement calls. Until there is a CUDA
// stream with tensors of its own, no operation uses them.
OCTAVO_KERNEL(softmax_forward_cuda) {
  const CudaStream stream;
  CudaBuffer x(call[0].bytes()), y(call[1].bytes());
  x.from_host(call[0].data, stream);
  softmax_forward_cuda(x.as<float>(), y.as<float>(), call[0].rows(), call[0].cols(), stream);
  y.to_host(call[1].data, stream);
  stream.wait();
}

OCTAVO_KERNEL(softmax_backward_cuda) {
  const CudaStream stream;
  CudaBuffer dy(call[0].bytes()), y(call[1].bytes()), dx(call[2].bytes());
  dy.from_host(call[0].data, stream);
  y.from_host(call[1].data, stream);
  softmax_backward_cuda(dy.as<float>(), y.as<float>(), dx.as<float>(), call[0].rows(), call[0].cols(), stream);
  dx.to_host(call[2].data, stream);
  stream.wait();
}
