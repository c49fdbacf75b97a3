// SPDX-License-Identifier: MIT
// Backward pass of LayerNorm and RMSNorm on CUDA: what its kernels are given and how they write dx,
// and the kernel for rows of any size and alignment. See docs/kernels/layer_norm.md.
#pragma once

#include "cuda_kernels/row_norm.cuh"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace lamina::kernels::row_norm {

/// Where the sums over rows go within a block's partial sums: [count, cols]; -1 for one not asked
/// for.
struct SumSlots {
  int dweight = -1;
  int dbias = -1;
  int column_sum = -1;
  int count = 0;

  explicit SumSlots(const LayerNormBackward& args) {
    if (args.dweight && args.dweight_write != GradWrite::skip) dweight = count++;
    if (args.dbias && args.dbias_write != GradWrite::skip) dbias = count++;
    if (args.column_sum) column_sum = count++;
  }
};

/// Scalars of a launch. A step is the distance in bytes from a row of a block to its next.
struct BackwardScalars {
  float inverse;      // 1 / cols
  int stages;         // of the ring
  int shared_floats;  // of the streamed variant
  int has_dsum, has_dx;
  std::int64_t x_step, dy_step, dsum_step, dx_step;
};

template <class T>
__device__ __forceinline__ T* advanced(T* row, std::int64_t bytes) {
  using Byte = std::conditional_t<std::is_const_v<T>, const std::byte, std::byte>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(row) + bytes);
}

/// Writes a pack of dx, added to what is there if it accumulates.
template <class S, int kWidth>
__device__ __forceinline__ void write_dx(S* dx, bool is_wanted, bool accumulates,
                                         const float (&values)[kWidth]) {
  if (is_wanted && accumulates) {
    float sum[kWidth];
    device::to_floats(device::load_pack<kWidth>(static_cast<const S*>(dx)), sum);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      sum[i] += values[i];
    device::store_pack(dx, device::from_floats<S>(sum));
  } else {
    device::store_pack_if(dx, device::from_floats<S>(values), is_wanted);
  }
}

/// What dropout lets through of dx, from column `col` of row `row` on, becomes `values`, written if
/// there is a dx_drop; without one they stay.
template <class T, int kWidth>
__device__ __forceinline__ void write_dx_drop(const LayerNormBackward& args, const DropMask& mask,
                                              std::int64_t row, int col, float (&values)[kWidth]) {
  if (args.dx_drop.data == nullptr) return;
  if (mask.drops()) {
    mask.apply(values, kept_elements<kWidth>(mask, row * args.x.cols + col));
  }
  device::store_pack(row_of<T>(args.dx_drop, row) + col, device::from_floats<T>(values));
}

/// The same for rows of any size: x and dy are read twice, and the sums over rows are kept in
/// shared memory if they fit there (shared_floats of them), else in the block's row of the partial
/// sums. Either way a thread only touches its own columns.
template <class T, class S, class W, Norm kNorm, int kWidth>
__global__ void __launch_bounds__(kMaxThreads, 2)
    backward_streamed(const LayerNormBackward args, const DropMask mask, const SumSlots slots,
                      float* const partials, const BackwardScalars scalars) {
  constexpr bool kHasMean = kNorm == Norm::layer;
  __shared__ typename RowSum<RowReach::block>::Scratch scratch;
  extern __shared__ __align__(128) std::byte ring[];          // a warp reads whole 128 B lines
  float* const shared_sums = reinterpret_cast<float*>(ring);  // [slots.count, cols]
  RowSum<RowReach::block> row_sum(scratch);
  wait_for_previous_kernel();
  start_next_kernel();

  const int cols = static_cast<int>(args.x.cols);
  const int begin = static_cast<int>(threadIdx.x) * kWidth;
  const int step = static_cast<int>(blockDim.x) * kWidth;
  const bool sums_in_shared = std::int64_t{slots.count} * cols <= scalars.shared_floats;
  const bool accumulates = args.dx_write == GradWrite::accumulate;
  float* const partial = partials + std::int64_t{blockIdx.x} * slots.count * cols;
  float* const sums_of_rows = sums_in_shared ? shared_sums : partial;
  const auto add = [&](int which, int col, bool is_first, const float(&values)[kWidth]) {
    float* const to = sums_of_rows + std::int64_t{which} * cols + col;
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      to[i] = is_first ? values[i] : to[i] + values[i];
  };

  for (std::int64_t row = blockIdx.x; row < args.x.rows; row += gridDim.x) {
    const bool is_first = row == blockIdx.x;
    const S* const x_row = row_of<const S>(args.x, row);
    const T* const dy_row = row_of<const T>(args.dy, row);
    const float mean = kHasMean ? static_cast<const float*>(args.mean.data)[row] : 0.0F;
    const float rstd = static_cast<const float*>(args.rstd.data)[row];
    float sums[2] = {};  // of g, of g * h
    for (int col = begin; col < cols; col += step) {
      const auto x = device::load_pack<kWidth>(x_row + col);
      const auto dy = device::load_pack<kWidth>(dy_row + col);
      float weight[kWidth];
      Parameters<W, kWidth>(args.weight, col, true, kOnes<W>).get(weight);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float g = dy.at(i) * weight[i];
        if constexpr (kHasMean) sums[0] += g;
        sums[1] = fmaf(g, (x.at(i) - mean) * rstd, sums[1]);
      }
    }
    row_sum.reduce(sums);
    const float mean_g = sums[0] * scalars.inverse;
    const float mean_gh = sums[1] * scalars.inverse;
    for (int col = begin; col < cols; col += step) {
      const auto x = device::load_pack<kWidth>(x_row + col);
      const auto dy = device::load_pack<kWidth>(dy_row + col);
      float weight[kWidth];
      Parameters<W, kWidth>(args.weight, col, true, kOnes<W>).get(weight);
      float dx[kWidth];
      float dweight[kWidth];
      float dbias[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float h = (x.at(i) - mean) * rstd;
        dx[i] = rstd * (dy.at(i) * weight[i] - mean_g - h * mean_gh);
        dweight[i] = dy.at(i) * h;
        dbias[i] = dy.at(i);
      }
      if (args.dsum.data != nullptr) {
        const auto dsum = device::load_pack<kWidth>(row_of<const S>(args.dsum, row) + col);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          dx[i] += dsum.at(i);
      }
      write_dx(row_of<S>(args.dx, row) + col, args.dx.data != nullptr, accumulates, dx);
      write_dx_drop<T>(args, mask, row, col, dx);
      if (slots.dweight >= 0) add(slots.dweight, col, is_first, dweight);
      if (slots.dbias >= 0) add(slots.dbias, col, is_first, dbias);
      if (slots.column_sum >= 0) add(slots.column_sum, col, is_first, dx);
    }
  }
  if (!sums_in_shared) return;
  for (int which = 0; which < slots.count; ++which) {
    const std::int64_t offset = std::int64_t{which} * cols;
    for (int col = begin; col < cols; col += step) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        partial[offset + col + i] = shared_sums[offset + col + i];
    }
  }
}

}  // namespace lamina::kernels::row_norm
