// SPDX-License-Identifier: MIT
// The second kernel of the backward pass of LayerNorm and RMSNorm on CUDA: adds up the sums over
// rows that the blocks of the first one left in the workspace, column by column, in a fixed order.
#pragma once

#include "cuda_kernels/row_norm.cuh"

#include <cstdint>

namespace lamina::kernels::row_norm {

struct SumOutput {
  void* data = nullptr;
  DType dtype = DType::f32;
  bool accumulates = false;
};

struct SumOutputs {
  SumOutput outputs[3];  // by slot
};

inline constexpr int kSumWarps = 16;

/// Adds `sums` to `to` (or writes them there), from column `col` on.
template <class T, int kWidth>
__device__ __forceinline__ void write_sums(const SumOutput& to, int col,
                                           const float (&sums)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    T& element = static_cast<T*>(to.data)[col + i];
    element = device::from_float<T>((to.accumulates ? device::to_float(element) : 0.0F) + sums[i]);
  }
}

/// Adds up the partial sums [rows, sums, cols] over rows: blockIdx.y is the sum, a warp takes every
/// kSumWarps-th row of 32 * kWidth columns, and the warps' results are added in order. kWidth
/// divides cols.
template <Norm kNorm, int kWidth>  // one copy per translation unit that uses it
__global__ void __launch_bounds__(device::kWarpSize* kSumWarps)
    add_partials(const float* const partials, const int rows, const int cols,
                 const SumOutputs outputs) {
  __shared__ Pack<float, kWidth> per_warp[kSumWarps][device::kWarpSize];
  wait_for_previous_kernel();
  start_next_kernel();
  const int lane = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.y);
  const int col = (static_cast<int>(blockIdx.x) * device::kWarpSize + lane) * kWidth;
  const std::int64_t pitch = std::int64_t{gridDim.y} * cols;
  Pack<float, kWidth> sums{};
  if (col < cols) {
    const float* const from = partials + std::int64_t{blockIdx.y} * cols + col;
#pragma unroll 8
    for (int row = warp; row < rows; row += kSumWarps) {
      const auto added = device::load_pack<kWidth>(from + row * pitch);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        sums[i] += added[i];
    }
  }
  per_warp[warp][lane] = sums;
  __syncthreads();
  if (warp != 0 || col >= cols) return;
  float totals[kWidth] = {};
#pragma unroll
  for (int w = 0; w < kSumWarps; ++w) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      totals[i] += per_warp[w][lane][i];
  }
  const SumOutput to = blockIdx.y == 0   ? outputs.outputs[0]
                       : blockIdx.y == 1 ? outputs.outputs[1]
                                         : outputs.outputs[2];
  switch (to.dtype) {
    case DType::f16:
      return write_sums<__half>(to, col, totals);
    case DType::bf16:
      return write_sums<__nv_bfloat16>(to, col, totals);
    default:
      return write_sums<float>(to, col, totals);
  }
}

}  // namespace lamina::kernels::row_norm
