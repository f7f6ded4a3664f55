#include <cuda_runtime.h>

#include "../common/fault.h"
#include "host.h"

CudaInfo cuda_device_info() {
  CudaInfo info{true, 0, {}};
  const cudaError_t status = cudaGetDeviceCount(&info.devices);
  if (status != cudaSuccess) {
    info.devices = 0;
    info.note = format("no device: %s", cudaGetErrorString(status));
    return info;
  }
  for (int device = 0; device < info.devices; ++device) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) continue;
    info.note += format("%s%s (compute %d.%d, %zu MiB)", device ? ", " : "", properties.name, properties.major, properties.minor,
                        properties.totalGlobalMem >> 20);
  }
  return info;
}
