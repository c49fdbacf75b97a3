// SPDX-License-Identifier: MIT
// Reductions over the 32 lanes of a warp by butterfly shuffles: every lane gets the result, and the
// order of the additions is fixed. All 32 lanes must take part.
#pragma once

namespace lamina::device {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffU;

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullWarp, value, offset);
  }
  return value;
}

/// A NaN is ignored unless all lanes hold one.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

}  // namespace lamina::device
