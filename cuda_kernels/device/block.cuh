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

}  // namespace lamina::device
