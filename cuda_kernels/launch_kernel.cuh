// SPDX-License-Identifier: MIT
// Launches with attributes: thread block clusters, and programmatic dependent launch, with which
// the blocks of a kernel take their places while the kernel before it on the stream ends. CUDA C++
// Programming Guide, "Programmatic Dependent Launch and Synchronization".
#pragma once

#include "core/cuda/check.h"
#include "core/stream.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>

namespace lamina::kernels {

/// In a kernel that is launched with launch_kernel(), before it touches global memory that the
/// kernel before it may use: what that writes is there from here on. Where that was launched with
/// launch_kernel() too, the same goes for the kernels before.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel's blocks start as soon as there is room for them; they wait where they call
/// wait_for_previous_kernel().
__device__ __forceinline__ void start_next_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

struct LaunchShape {
  dim3 grid, block;
  std::size_t shared_bytes = 0;  // dynamic; beyond 48 KiB the kernel's limit must have been raised
  int cluster = 0;               // blocks; divides grid.x; 0: none
  bool may_start_early = true;   // false: starts when all that was queued before is complete
};

/// Whether the code that the device runs for `kernel` was compiled for sm_90 or later: older code
/// does not wait. Asked once for each kernel.
bool can_wait(const void* kernel, int device);

/// Queues a kernel that calls wait_for_previous_kernel().
template <class... Params>
void launch_kernel(void (*kernel)(Params...), const LaunchShape& shape, CudaStream stream,
                   const std::type_identity_t<Params>&... args) {
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream.handle);
  config.attrs = attributes;
  if (shape.may_start_early && can_wait(reinterpret_cast<const void*>(kernel), stream.device)) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 0) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs].val.clusterDim.x = static_cast<unsigned>(shape.cluster);
    attributes[config.numAttrs].val.clusterDim.y = 1;
    attributes[config.numAttrs++].val.clusterDim.z = 1;
  }
  LAMINA_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, args...));
}

}  // namespace lamina::kernels
