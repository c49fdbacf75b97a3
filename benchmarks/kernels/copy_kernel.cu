// SPDX-License-Identifier: MIT
// The plain copy that memory-bound kernels are measured against.
#include "benchmarks/kernels/cold_timer.h"
#include "core/cuda/check.h"

#include <cuda_runtime.h>

namespace lamina::bench {
namespace {

constexpr int kThreads = 256;

/// kPieces loads of 16 bytes per thread are under way before the first store.
template <int kPieces>
__global__ void __launch_bounds__(kThreads)
    copy(const uint4* __restrict__ from, uint4* __restrict__ to, std::int64_t size) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads * kPieces + threadIdx.x;
  uint4 held[kPieces];
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const std::int64_t i = first + p * kThreads;
    if (i < size) held[p] = __ldcs(from + i);
  }
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const std::int64_t i = first + p * kThreads;
    if (i < size) to[i] = held[p];
  }
}

template <int kPieces>
void start(const void* from, void* to, std::int64_t size, CudaStream stream) {
  constexpr int kPerBlock = kThreads * kPieces;
  const auto blocks = static_cast<unsigned>((size + kPerBlock - 1) / kPerBlock);
  copy<kPieces><<<blocks, kThreads, 0, stream.handle>>>(static_cast<const uint4*>(from),
                                                        static_cast<uint4*>(to), size);
}

}  // namespace

void copy_16_bytes_wide(const void* from, void* to, std::int64_t bytes, CudaStream stream) {
  const std::int64_t size = bytes / static_cast<std::int64_t>(sizeof(uint4));
  // Below 16 MB four pieces per thread would leave multiprocessors with less than eight blocks.
  bytes < (std::int64_t{16} << 20) ? start<1>(from, to, size, stream)
                                   : start<4>(from, to, size, stream);
  LAMINA_CUDA_CHECK(cudaGetLastError());
}

}  // namespace lamina::bench
