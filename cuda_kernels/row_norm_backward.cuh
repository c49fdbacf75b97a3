// SPDX-License-Identifier: MIT
// Backward pass of LayerNorm and RMSNorm on CUDA, in two kernels: a persistent grid that reads x
// and dy once, writes dx and keeps the sums over its rows on chip, one row of partial sums per
// block; and a second kernel that adds those up column by column. The grid and every order of
// addition depend only on the operands and the device, so results are bit-identical from run to
// run.
#pragma once

#include "core/cuda/check.h"
#include "core/device.h"
#include "cuda_kernels/row_norm.cuh"

#include <algorithm>
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

/// dx of one pack: rstd * (g - mean(g) - h * mean(g * h)) + dsum, and what dropout lets through of
/// it.
template <class T, Norm kNorm, bool kTail, int kWidth>
__device__ __forceinline__ void write_dx(const LayerNormBackward& args, const DropMask& mask,
                                         std::int64_t row, int col, const float (&dx)[kWidth],
                                         float (&tail)[kWidth]) {
  if (args.dx.data != nullptr && args.dx_write != GradWrite::skip) {
    T* const to = row_of<T>(args.dx, row) + col;
    Pack<T, kWidth> out;
    if (args.dx_write == GradWrite::accumulate) {
      const auto before = device::load_pack<kWidth>(static_cast<const T*>(to));
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        out.set(i, before.at(i) + dx[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        out.set(i, dx[i]);
    }
    device::store_pack(to, out);
  }
  if constexpr (kTail) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      tail[i] = dx[i];
    if (args.dx_drop.data == nullptr) return;
    if (mask.threshold != 0) {
      float factors[kWidth];
      mask.factors(row * args.x.cols + col, factors);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        tail[i] = factors[i] == 0.0F ? 0.0F : dx[i] * factors[i];
    }
    Pack<T, kWidth> out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      out.set(i, tail[i]);
    device::store_pack(row_of<T>(args.dx_drop, row) + col, out);
  }
}

/// Adds the groups' sums of one kind in the order of the groups and writes them as a partial row.
template <int kWidth, int kPacks>
__device__ __forceinline__ void write_partial(const float (&sums)[kPacks][kWidth], int cols,
                                              float* staging, float* partial) {
  const int groups = static_cast<int>(blockDim.y);
  float* const own = groups == 1 ? partial : staging + static_cast<int>(threadIdx.y) * cols;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int col = column_of<kWidth>(p);
    if (col >= cols) continue;
    constexpr int kPiece = kWidth % 4 == 0 ? 4 : 1;
#pragma unroll
    for (int i = 0; i < kWidth; i += kPiece) {
      Pack<float, kPiece> piece;
#pragma unroll
      for (int j = 0; j < kPiece; ++j)
        piece[j] = sums[p][i + j];
      device::store_pack(own + col + i, piece);
    }
  }
  if (groups == 1) return;
  __syncthreads();
  const int threads = static_cast<int>(blockDim.x * blockDim.y);
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  for (int col = thread; col < cols; col += threads) {
    float total = 0.0F;
    for (int group = 0; group < groups; ++group)
      total += staging[group * cols + col];
    partial[col] = total;
  }
  __syncthreads();
}

/// Rows are dealt to the groups of all blocks in turn. A thread owns the same columns of every row,
/// so its sums over rows stay in registers. kTail: dx_drop or column_sum is wanted.
template <class T, Norm kNorm, bool kTail, int kWidth, int kElements>
__global__ void __launch_bounds__(kMaxThreads, 1)
    backward(const LayerNormBackward args, const DropMask mask, const SumSlots slots,
             float* const partials) {
  constexpr int kPacks = kElements / kWidth;
  constexpr bool kHoldsWeight = kElements <= 8;  // else it is read again, from L1
  // What stays in registers is bounded by the 128 that 512 threads leave each.
  constexpr bool kPrefetches = kWidth > 1 && kElements <= 8;
  constexpr bool kHoldsDsum = kElements * sizeof(T) <= 32;
  constexpr bool kHasMean = kNorm == Norm::layer;
  using Held = Pack<T, kWidth>;
  __shared__ device::GroupScratch<2> scratch;
  extern __shared__ __align__(16) float staging[];  // [blockDim.y, cols], only with several groups
  int slot = 0;

  const int cols = static_cast<int>(args.x.cols);
  const auto count = static_cast<float>(cols);

  float weights[kHoldsWeight ? kPacks : 1][kWidth];
  if constexpr (kHoldsWeight) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int col = column_of<kWidth>(p);
      if (col < cols) load_parameter<T>(args.weight, col, 1.0F, weights[p]);
    }
  }
  float dweight[kPacks][kWidth] = {};
  float dbias[kPacks][kWidth] = {};
  float column_sum[kPacks][kWidth] = {};

  Held x[kPacks];
  Held dy[kPacks];
  float mean = 0.0F;
  float rstd = 0.0F;
  const auto load_row = [&](std::int64_t from_row, Held(&x_to)[kPacks], Held(&dy_to)[kPacks],
                            float& mean_to, float& rstd_to) {
    if (from_row >= args.x.rows) return;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int col = column_of<kWidth>(p);
      if (col >= cols) continue;
      x_to[p] = device::load_pack<kWidth>(row_of<const T>(args.x, from_row) + col);
      dy_to[p] = device::load_pack<kWidth>(row_of<const T>(args.dy, from_row) + col);
    }
    if constexpr (kHasMean) mean_to = static_cast<const float*>(args.mean.data)[from_row];
    rstd_to = static_cast<const float*>(args.rstd.data)[from_row];
  };

  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.y;
  std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if constexpr (kPrefetches) load_row(row, x, dy, mean, rstd);
  for (std::int64_t first = std::int64_t{blockIdx.x} * blockDim.y; first < args.x.rows;
       first += step, row += step) {
    const int end = row < args.x.rows ? cols : 0;  // no early exit: barriers
    if constexpr (!kPrefetches) load_row(row, x, dy, mean, rstd);
    Held dsum[kPacks];
    if (kHoldsDsum && args.dsum.data != nullptr) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const int col = column_of<kWidth>(p);
        if (col < end) dsum[p] = device::load_pack<kWidth>(row_of<const T>(args.dsum, row) + col);
      }
    }
    Held next_x[kPacks];
    Held next_dy[kPacks];
    float next_mean = 0.0F;
    float next_rstd = 0.0F;
    if constexpr (kPrefetches) load_row(row + step, next_x, next_dy, next_mean, next_rstd);

    float sums[2] = {};  // of g, of g * h
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int col = column_of<kWidth>(p);
      if (col >= end) continue;
      float weight[kWidth];
      if constexpr (!kHoldsWeight) load_parameter<T>(args.weight, col, 1.0F, weight);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float h = (x[p].at(i) - mean) * rstd;
        const float g = dy[p].at(i) * (kHoldsWeight ? weights[kHoldsWeight ? p : 0][i] : weight[i]);
        if constexpr (kHasMean) sums[0] += g;
        sums[1] = fmaf(g, h, sums[1]);
        dweight[p][i] = fmaf(dy[p].at(i), h, dweight[p][i]);
        if constexpr (kHasMean) dbias[p][i] += dy[p].at(i);
      }
    }
    device::group_sum(sums, scratch, slot);
    const float mean_g = sums[0] / count;
    const float mean_gh = sums[1] / count;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int col = column_of<kWidth>(p);
      if (col >= end) continue;
      device::keep_packed(x[p]);
      device::keep_packed(dy[p]);
      if (!kHoldsDsum && args.dsum.data != nullptr) {
        dsum[p] = device::load_pack<kWidth>(row_of<const T>(args.dsum, row) + col);
      }
      float weight[kWidth];
      if constexpr (!kHoldsWeight) load_parameter<T>(args.weight, col, 1.0F, weight);
      float dx[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float h = (x[p].at(i) - mean) * rstd;
        const float g = dy[p].at(i) * (kHoldsWeight ? weights[kHoldsWeight ? p : 0][i] : weight[i]);
        dx[i] = rstd * (g - mean_g - h * mean_gh);
        if (args.dsum.data != nullptr) dx[i] += dsum[p].at(i);
      }
      float tail[kWidth];
      write_dx<T, kNorm, kTail>(args, mask, row, col, dx, tail);
      if constexpr (kTail) {
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          column_sum[p][i] += tail[i];
      }
    }
    if constexpr (kPrefetches) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        x[p] = next_x[p];
        dy[p] = next_dy[p];
      }
      mean = next_mean;
      rstd = next_rstd;
    }
  }

  float* const partial = partials + std::int64_t{blockIdx.x} * slots.count * cols;
  if (slots.dweight >= 0) write_partial(dweight, cols, staging, partial + slots.dweight * cols);
  if (slots.dbias >= 0) write_partial(dbias, cols, staging, partial + slots.dbias * cols);
  if constexpr (kTail) {
    if (slots.column_sum >= 0) {
      write_partial(column_sum, cols, staging, partial + slots.column_sum * cols);
    }
  }
}

/// The same for rows that do not fit in registers: x and dy are read twice, and the sums over rows
/// are kept in shared memory if they fit there, else in the block's row of the partial sums. Either
/// way a thread only touches its own columns.
template <class T, Norm kNorm, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    backward_streamed(const LayerNormBackward args, const DropMask mask, const SumSlots slots,
                      float* const partials, const bool sums_in_shared) {
  constexpr bool kHasMean = kNorm == Norm::layer;
  __shared__ device::GroupScratch<2> scratch;
  extern __shared__ float shared_sums[];  // [slots.count, cols]
  int slot = 0;

  const int cols = static_cast<int>(args.x.cols);
  const float count = static_cast<float>(args.x.cols);
  const int step = static_cast<int>(blockDim.x) * kWidth;
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
    const T* const x_row = row_of<const T>(args.x, row);
    const T* const dy_row = row_of<const T>(args.dy, row);
    const float mean = kHasMean ? static_cast<const float*>(args.mean.data)[row] : 0.0F;
    const float rstd = static_cast<const float*>(args.rstd.data)[row];
    float sums[2] = {};  // of g, of g * h
    for (int col = column_of<kWidth>(0); col < cols; col += step) {
      const auto x = device::load_pack<kWidth>(x_row + col);
      const auto dy = device::load_pack<kWidth>(dy_row + col);
      float weight[kWidth];
      load_parameter<T>(args.weight, col, 1.0F, weight);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float g = dy.at(i) * weight[i];
        if constexpr (kHasMean) sums[0] += g;
        sums[1] = fmaf(g, (x.at(i) - mean) * rstd, sums[1]);
      }
    }
    device::group_sum(sums, scratch, slot);
    const float mean_g = sums[0] / count;
    const float mean_gh = sums[1] / count;
    for (int col = column_of<kWidth>(0); col < cols; col += step) {
      const auto x = device::load_pack<kWidth>(x_row + col);
      const auto dy = device::load_pack<kWidth>(dy_row + col);
      float weight[kWidth];
      load_parameter<T>(args.weight, col, 1.0F, weight);
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
        const auto dsum = device::load_pack<kWidth>(row_of<const T>(args.dsum, row) + col);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          dx[i] += dsum.at(i);
      }
      float tail[kWidth];
      write_dx<T, kNorm, kHasMean>(args, mask, row, col, dx, tail);
      if (slots.dweight >= 0) add(slots.dweight, col, is_first, dweight);
      if (slots.dbias >= 0) add(slots.dbias, col, is_first, dbias);
      if constexpr (kHasMean) {
        if (slots.column_sum >= 0) add(slots.column_sum, col, is_first, tail);
      }
    }
  }
  if (!sums_in_shared) return;
  for (int which = 0; which < slots.count; ++which) {
    const std::int64_t offset = std::int64_t{which} * cols;
    for (int col = column_of<kWidth>(0); col < cols; col += step) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        partial[offset + col + i] = shared_sums[offset + col + i];
    }
  }
}

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
    add_partials(const float* __restrict__ partials, const int rows, const int cols,
                 const SumOutputs outputs) {
  __shared__ float per_warp[kSumWarps][kSumColumns];
  const int lane = static_cast<int>(threadIdx.x);
  const int warp = static_cast<int>(threadIdx.y);
  const int col = static_cast<int>(blockIdx.x) * kSumColumns + lane;
  const std::int64_t pitch = std::int64_t{gridDim.y} * cols;
  float sum = 0.0F;
  if (col < cols) {
    const float* const from = partials + std::int64_t{blockIdx.y} * cols + col;
#pragma unroll 4
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

/// Most blocks that write partial sums. Known before the pointers are, for the size of the
/// workspace.
inline std::int64_t max_backward_blocks(const LayerNormBackward& args, CudaStream stream) {
  const Device device{DeviceKind::cuda, stream.device};
  const std::int64_t slots = std::int64_t{device_info(device).multiprocessors} *
                             tuning::layer_norm_backward_blocks(args.x.cols);
  return std::min(slots, args.x.rows);
}

inline std::int64_t backward_workspace_bytes(const LayerNormBackward& args, CudaStream stream) {
  return max_backward_blocks(args, stream) * SumSlots(args).count * args.x.cols *
         static_cast<std::int64_t>(sizeof(float));
}

/// Blocks for `rows` rows, `per_block` at a time: as few as take the same number of rounds.
inline std::int64_t balanced_blocks(std::int64_t rows, int per_block, std::int64_t max_blocks) {
  const std::int64_t work = (rows + per_block - 1) / per_block;
  const std::int64_t rounds = (work + max_blocks - 1) / max_blocks;
  return (work + rounds - 1) / rounds;
}

/// Queues the first kernel; returns the number of rows of partial sums.
template <class T, Norm kNorm>
int launch_partials(const LayerNormBackward& args, const SumSlots& slots, CudaStream stream) {
  const bool has_vectors =
      allows_vectors({args.x, args.dy, args.dsum, args.dx, args.dx_drop}, {args.weight});
  constexpr int kVector = device::kVectorWidth<T>;
  const bool has_tail = args.dx_drop || args.column_sum;
  const tuning::RowPolicy policy =
      tuning::layer_norm_backward(args.x.cols, has_vectors ? kVector : 1, sizeof(T), has_tail);
  const std::int64_t blocks =
      balanced_blocks(args.x.rows, policy.rows_per_block, max_backward_blocks(args, stream));
  const auto grid = static_cast<unsigned>(blocks);
  const dim3 block(static_cast<unsigned>(policy.threads_per_row),
                   static_cast<unsigned>(policy.rows_per_block));
  const DropMask mask(args.drop_p, args.key);
  auto* const partials = args.workspace.as<float>();

  const auto start_held = [&]<int kWidth, int kElements>() {
    const std::size_t staging =
        policy.rows_per_block == 1
            ? 0
            : sizeof(float) * static_cast<std::size_t>(policy.rows_per_block * args.x.cols);
    const auto start = [&]<bool kTail>() {
      if constexpr (!kTail || kElements * sizeof(T) <= 32) {  // as the policy promises
        backward<T, kNorm, kTail, kWidth, kElements>
            <<<grid, block, staging, stream.handle>>>(args, mask, slots, partials);
      }
    };
    if constexpr (kNorm == Norm::layer) {
      dispatch_bool(has_tail, start);
    } else {
      start.template operator()<false>();
    }
  };
  const auto start_streamed = [&]<int kWidth>() {
    const auto kernel = backward_streamed<T, kNorm, kWidth>;
    const std::size_t wanted = sizeof(float) * static_cast<std::size_t>(slots.count * args.x.cols);
    const std::size_t offered = device_info({DeviceKind::cuda, stream.device}).shared_per_block;
    const std::size_t limit = offered - sizeof(device::GroupScratch<2>);
    const bool fits = wanted <= limit;
    const std::size_t shared = fits ? wanted : 0;
    // Always the same limit: it belongs to the kernel, not to this launch.
    LAMINA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(limit)));
    kernel<<<grid, block, shared, stream.handle>>>(args, mask, slots, partials, fits);
  };
  if (policy.elements == 0) {
    has_vectors ? start_streamed.template operator()<kVector>()
                : start_streamed.template operator()<1>();
  } else if (policy.elements == 16) {
    start_held.template operator()<kVector, 16>();
  } else {
    has_vectors ? start_held.template operator()<kVector, 8>()
                : start_held.template operator()<1, 8>();
  }
  return static_cast<int>(blocks);
}

/// Both kernels. No rows: the sums are 0. Neither output asked for: nothing is queued for it.
template <Norm kNorm>
void launch_backward(const LayerNormBackward& args, std::string_view op, CudaStream stream) {
  if (args.x.cols == 0) return;
  check_extents(op, args.x);
  const SumSlots slots(args);
  int partial_rows = 0;
  if (args.x.rows > 0) {
    dispatch_cuda_float(args.x.dtype, op, [&]<class T>() {
      partial_rows = launch_partials<T, kNorm>(args, slots, stream);
    });
  }
  if (slots.count == 0) return;
  SumOutputs to;
  const auto set = [&](int slot, const Flat& view, GradWrite write) {
    if (slot < 0) return;
    to.outputs[slot] = {view.data, view.dtype, write == GradWrite::accumulate};
  };
  set(slots.dweight, args.dweight, args.dweight_write);
  set(slots.dbias, args.dbias, args.dbias_write);
  set(slots.column_sum, args.column_sum, GradWrite::overwrite);
  const auto columns = static_cast<unsigned>((args.x.cols + kSumColumns - 1) / kSumColumns);
  add_partials<kNorm><<<dim3(columns, static_cast<unsigned>(slots.count)),
                        dim3(kSumColumns, kSumWarps), 0, stream.handle>>>(
      args.workspace.as<const float>(), partial_rows, static_cast<int>(args.x.cols), to);
}

}  // namespace lamina::kernels::row_norm
