// SPDX-License-Identifier: MIT
// Reductions over a thread block: warp shuffles, one value per warp through shared memory, shuffles
// again. Every thread gets the result; the order of the additions is fixed. All threads of the
// block must take part and blockDim.x must be a multiple of 32 (one-dimensional blocks).
#pragma once

#include "cuda_kernels/device/warp.cuh"

namespace lamina::device {

namespace detail {
template <class Combine>
__device__ __forceinline__ float block_reduce(float value, float identity, const Combine& combine) {
  __shared__ float per_warp[kWarpSize];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = combine(value);
  if (warps == 1) return value;
  __syncthreads();  // the readers of an earlier reduction are done
  if (lane == 0) per_warp[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  return combine(lane < warps ? per_warp[lane] : identity);
}
}  // namespace detail

/// Sum of `value` over the block.
__device__ __forceinline__ float block_sum(float value) {
  return detail::block_reduce(value, 0.0F, [](float v) { return warp_sum(v); });
}

/// Maximum of `value` over the block; NaNs are ignored unless all values are NaN.
__device__ __forceinline__ float block_max(float value) {
  return detail::block_reduce(value, -__int_as_float(0x7f800000),
                              [](float v) { return warp_max(v); });
}

/// Shared memory of group_sum(): two slots, used in turn, so that each sum needs only one barrier.
template <int kValues>
struct GroupScratch {
  float per_warp[2][kWarpSize][kValues];
};

/// Sums of `values` over the threads with the same threadIdx.y of a block whose x extent is a
/// multiple of 32. With more than one warp in x it passes a block barrier, so all threads of the
/// block must call it equally often. `slot` starts at 0 and is switched by each call.
template <int kValues>
__device__ __forceinline__ void group_sum(float (&values)[kValues], GroupScratch<kValues>& scratch,
                                          int& slot) {
#pragma unroll
  for (int k = 0; k < kValues; ++k)
    values[k] = warp_sum(values[k]);
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  if (warps == 1) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first = static_cast<int>(threadIdx.y) * warps;
  if (lane == 0) {
    const int warp = first + static_cast<int>(threadIdx.x) / kWarpSize;
#pragma unroll
    for (int k = 0; k < kValues; ++k)
      scratch.per_warp[slot][warp][k] = values[k];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kValues; ++k) {
    values[k] = warp_sum(lane < warps ? scratch.per_warp[slot][first + lane][k] : 0.0F);
  }
  slot ^= 1;
}

}  // namespace lamina::device
