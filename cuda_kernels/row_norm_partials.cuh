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

inline constexpr int kSumWarps = 16;

/// Adds up the partial sums [rows, sums, cols] over rows: blockIdx.y is the sum. A block has
/// kLanes * kWidth columns; that many lanes of a warp read a row, the rest of the warp and the
/// other warps the next rows. What they have is added up within a warp, then over the warps, in a
/// fixed order. kWidth divides cols.
template <int kWidth, int kLanes>
__global__ void __launch_bounds__(device::kWarpSize* kSumWarps)
    add_partials(const float* const partials, const int rows, const int cols,
                 const SumOutputs outputs) {
  constexpr int kReaders = kSumWarps * device::kWarpSize / kLanes;
  __shared__ Pack<float, kWidth> per_warp[kSumWarps][kLanes];
  wait_for_previous_kernel();
  start_next_kernel();
  const auto in_warp = static_cast<int>(threadIdx.x);
  const auto warp = static_cast<int>(threadIdx.y);
  const int lane = in_warp % kLanes;
  const int reader = (warp * device::kWarpSize + in_warp) / kLanes;
  const int col = (static_cast<int>(blockIdx.x) * kLanes + lane) * kWidth;
  const std::int64_t pitch = std::int64_t{gridDim.y} * cols;
  Pack<float, kWidth> sums{};
  if (col < cols) {
    const float* const from = partials + std::int64_t{blockIdx.y} * cols + col;
#pragma unroll(kLanes == device::kWarpSize ? 8 : 4)
    for (int row = reader; row < rows; row += kReaders) {
      const auto added = device::load_pack<kWidth>(from + row * pitch);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        sums[i] += added[i];
    }
  }
#pragma unroll
  for (int offset = kLanes; offset < device::kWarpSize; offset *= 2) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      sums[i] += __shfl_xor_sync(device::kFullWarp, sums[i], offset);
  }
  if (in_warp < kLanes) per_warp[warp][lane] = sums;
  __syncthreads();
  if (warp != 0 || in_warp >= kLanes || col >= cols) return;
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
