// SPDX-License-Identifier: MIT
// The second stage of sums of columns on CUDA: the blocks of the first stage leave partial sums of
// each column in the workspace, this kernel adds them up in a fixed order. Used by reduce,
// activation_backward and attention.
#pragma once

#include "cuda_kernels/row_loop.cuh"

#include <algorithm>
#include <cstdint>

namespace lamina::kernels {

inline constexpr int kColumnThreads = 256;
inline constexpr int kColumnLanes = 32;  // threads next to each other in a row
inline constexpr int kColumnSlices = kColumnThreads / kColumnLanes;
inline constexpr int kSplitSlices = 32;          // of the second stage: its blocks are few
inline constexpr std::int64_t kMaxGrid = 65535;  // of y and z

/// y[row, col] = sum over splits of parts[split, row, col], or += that. Threads next to each other
/// take neighbouring columns, kSplitSlices of them share the splits of one column.
template <class Out>
__global__ void __launch_bounds__(kSplitSlices* kColumnLanes)
    add_splits(const float* __restrict__ parts, Out* __restrict__ y, std::int64_t splits,
               std::int64_t y_rows, std::int64_t cols, std::int64_t pitch, std::int64_t y_stride,
               bool accumulate) {
  __shared__ float shared[kSplitSlices][kColumnLanes];
  const int lane = static_cast<int>(threadIdx.x) % kColumnLanes;
  const int slice = static_cast<int>(threadIdx.x) / kColumnLanes;
  const std::int64_t col = std::int64_t{blockIdx.x} * kColumnLanes + lane;
  for (std::int64_t row = blockIdx.y; row < y_rows; row += gridDim.y) {
    float sum[1] = {0.0F};
    if (col < cols) {
      const float* from = parts + row * pitch + col;
#pragma unroll 8
      for (std::int64_t k = slice; k < splits; k += kSplitSlices)
        sum[0] += from[k * y_rows * pitch];
    }
    shared[slice][lane] = sum[0];
    __syncthreads();
    if (slice == 0 && col < cols) {
#pragma unroll
      for (int k = 1; k < kSplitSlices; ++k)
        sum[0] += shared[k][lane];
      write_values(y + row * y_stride + col, 1, sum, accumulate);
    }
    __syncthreads();
  }
}

/// Queues add_splits; pitch is in floats.
template <class Out>
void launch_add_splits(const float* parts, Out* y, std::int64_t splits, std::int64_t y_rows,
                       std::int64_t cols, std::int64_t pitch, std::int64_t y_stride,
                       bool accumulate, CudaStream stream) {
  const dim3 grid(static_cast<unsigned>((cols + kColumnLanes - 1) / kColumnLanes),
                  static_cast<unsigned>(std::min(y_rows, kMaxGrid)));
  add_splits<<<grid, kSplitSlices * kColumnLanes, 0, stream.handle>>>(
      parts, y, splits, y_rows, cols, pitch, y_stride, accumulate);
}

}  // namespace lamina::kernels
