// SPDX-License-Identifier: MIT
#include "core/cuda/check.h"
#include "core/kernels/counter.h"

#include <cuda_runtime.h>

namespace lamina::kernels {
namespace {

__global__ void increment(std::uint64_t* counter, std::uint64_t by) {
  *counter += by;
}

}  // namespace

void run(const Increment& args, CudaStream stream) {
  increment<<<1, 1, 0, stream.handle>>>(args.counter.as<std::uint64_t>(),
                                        static_cast<std::uint64_t>(args.by));
  LAMINA_CUDA_CHECK(cudaGetLastError());
}

}  // namespace lamina::kernels
