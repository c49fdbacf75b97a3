// SPDX-License-Identifier: MIT
// The second kernel of the backward pass of LayerNorm and RMSNorm on CUDA: adds up the sums over
// rows that the blocks of the first one left in the workspace, column by column, in a fixed order.
#pragma once

#include "cuda_kernels/row_norm.cuh"

#include <cstdint>
#include <type_traits>

namespace lamina::kernels::row_norm {

struct SumOutput {
  void* data = nullptr;
  DType dtype = DType::f32;
  bool accumulates = false;
};

struct SumOutputs {
  SumOutput outputs[3];  // by slot
};

inline constexpr int kSumColumns = 32;  // one 128 B line of partial sums per warp and row
inline constexpr int kSumWarps = 16;

/// Adds up the partial sums [rows, sums, cols] over rows: blockIdx.y is the sum, a warp takes every
/// kSumWarps-th row of 32 columns, and the warps' results are added in order.
template <Norm kNorm>  // one copy per translation unit that uses it
__global__ void __launch_bounds__(kSumColumns* kSumWarps)
    add_partials(const float* const partials, const int rows, const int cols,
                 const SumOutputs outputs) {
  __shared__ float per_warp[kSumWarps][kSumColumns];
  wait_for_previous_kernel();
  start_next_kernel();
  const int lane = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.y);
  const int col = static_cast<int>(blockIdx.x) * kSumColumns + lane;
  const std::int64_t pitch = std::int64_t{gridDim.y} * cols;
  float sum = 0.0F;
  if (col < cols) {
    const float* const from = partials + std::int64_t{blockIdx.y} * cols + col;
#pragma unroll 8
    for (int row = warp; row < rows; row += kSumWarps)
      sum += from[row * pitch];
  }
  per_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || col >= cols) return;
  float total = 0.0F;
#pragma unroll
  for (int w = 0; w < kSumWarps; ++w)
    total += per_warp[w][lane];
  const SumOutput to = blockIdx.y == 0   ? outputs.outputs[0]
                       : blockIdx.y == 1 ? outputs.outputs[1]
                                         : outputs.outputs[2];
  const auto write = [&](auto* data) {
    using T = std::remove_pointer_t<decltype(data)>;
    const float before = to.accumulates ? device::to_float(data[col]) : 0.0F;
    data[col] = device::from_float<T>(before + total);
  };
  switch (to.dtype) {
    case DType::f16:
      return write(static_cast<__half*>(to.data));
    case DType::bf16:
      return write(static_cast<__nv_bfloat16*>(to.data));
    default:
      return write(static_cast<float*>(to.data));
  }
}

}  // namespace lamina::kernels::row_norm
