// CUDA resources with owners. Every call and every launch is checked; a failure throws with the call's text and reason.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>

#include "../common/fault.h"

#define CUDA_CHECK(call)                                                                                            \
  do {                                                                                                              \
    const cudaError_t status_ = (call);                                                                             \
    if (status_ != cudaSuccess) fail("%s: %s (%s)", #call, cudaGetErrorString(status_), cudaGetErrorName(status_)); \
  } while (0)
#define CUDA_CHECK_LAUNCH(name)                                                                                              \
  do {                                                                                                                       \
    const cudaError_t status_ = cudaGetLastError();                                                                          \
    if (status_ != cudaSuccess) fail("launch of %s: %s (%s)", name, cudaGetErrorString(status_), cudaGetErrorName(status_)); \
  } while (0)

/// A stream of its own, destroyed with the object.
class CudaStream {
 public:
  CudaStream() { CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~CudaStream() { cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  cudaStream_t get() const { return stream_; }
  void wait() const { CUDA_CHECK(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Device memory, freed with the object.
class CudaBuffer {
 public:
  explicit CudaBuffer(size_t bytes) : bytes_(bytes) {
    if (bytes) CUDA_CHECK(cudaMalloc(&data_, bytes));
  }
  ~CudaBuffer() { cudaFree(data_); }
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;
  template <class T> T* as() const { return static_cast<T*>(data_); }

  void from_host(const void* source, const CudaStream& stream) {
    if (bytes_) CUDA_CHECK(cudaMemcpyAsync(data_, source, bytes_, cudaMemcpyHostToDevice, stream.get()));
  }
  void to_host(void* target, const CudaStream& stream) const {
    if (bytes_) CUDA_CHECK(cudaMemcpyAsync(target, data_, bytes_, cudaMemcpyDeviceToHost, stream.get()));
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};
