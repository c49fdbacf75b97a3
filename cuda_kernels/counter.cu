// SPDX-License-Identifier: MIT
#include "core/cuda/check.h"
#include "core/kernels/counter.h"

#include <cuda_runtime.h>

namespace lamina::kernels {
namespace {

template <class T>
__global__ void increment(T* counter, std::uint64_t by) {
  *counter += static_cast<T>(by);
}

}  // namespace

void run(const Increment& args, CudaStream stream) {
  const auto by = static_cast<std::uint64_t>(args.by);
  if (args.counter.dtype == DType::i32) {
    increment<<<1, 1, 0, stream.handle>>>(args.counter.as<std::uint32_t>(), by);
  } else {
    increment<<<1, 1, 0, stream.handle>>>(args.counter.as<std::uint64_t>(), by);
  }
  LAMINA_CUDA_CHECK(cudaGetLastError());
}

}  // namespace lamina::kernels
