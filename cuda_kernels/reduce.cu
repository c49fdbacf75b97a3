// SPDX-License-Identifier: MIT
// Sum and ColumnSum on CUDA, in two stages through the workspace. The grids depend on the shapes
// (and for Sum on the alignment) alone, so the order of the additions is the same on every device.
#include "core/kernels/reduce.h"
#include "cuda_kernels/column_partials.cuh"
#include "cuda_kernels/device/block.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

#include <algorithm>

namespace lamina::kernels {
namespace {

constexpr int kThreads = kColumnThreads;
constexpr std::int64_t kSumBlocks = 1024;    // 8 per SM of 128
constexpr std::int64_t kSumElements = 4096;  // least work of a block
constexpr int kLanes = kColumnLanes;
constexpr int kRowsAtOnce = kColumnSlices;
constexpr std::int64_t kColumnBlocks = 1024;
constexpr std::int64_t kMinSplitRows = 32;  // rows of a block of the first stage: 4 per thread

/// Blocks of the first stage of Sum.
std::int64_t sum_blocks(const Sum& args) {
  return std::clamp<std::int64_t>((args.x.elements() + kSumElements - 1) / kSumElements, 1,
                                  kSumBlocks);
}

/// Every block sums every gridDim.x-th piece: kThreads * kWidth columns of one row.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    sum_parts(const T* __restrict__ x, float* __restrict__ parts, std::int64_t pieces,
              std::int64_t pieces_per_row, std::int64_t cols, std::int64_t stride) {
  float sum[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    sum[i] = 0.0F;
  // (row, piece) of this block without a division per step: the step is split once.
  std::int64_t row = blockIdx.x / pieces_per_row;
  std::int64_t piece = blockIdx.x - row * pieces_per_row;
  const std::int64_t row_step = gridDim.x / pieces_per_row;
  const std::int64_t piece_step = gridDim.x - row_step * pieces_per_row;
  for (std::int64_t i = blockIdx.x; i < pieces; i += gridDim.x) {
    const std::int64_t col = (piece * kThreads + threadIdx.x) * kWidth;
    if (col < cols) {
      float values[kWidth];
      load_values(x + row * stride + col, static_cast<int>(min(cols - col, std::int64_t{kWidth})),
                  values);
#pragma unroll
      for (int j = 0; j < kWidth; ++j)
        sum[j] += values[j];
    }
    row += row_step;
    piece += piece_step;
    if (piece >= pieces_per_row) {
      piece -= pieces_per_row;
      ++row;
    }
  }
  float total = 0.0F;
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    total += sum[i];
  total = device::block_sum(total);
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

template <class Out>
__global__ void __launch_bounds__(kThreads)
    sum_total(const float* __restrict__ parts, Out* __restrict__ y, int count, float factor) {
  float sum = 0.0F;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads)
    sum += parts[i];
  sum = device::block_sum(sum);
  if (threadIdx.x == 0) *y = device::from_float<Out>(factor * sum);
}

/// ColumnSum over views that were folded to as few rows of y as possible.
struct ColumnPlan {
  Rows x, factor, y;
  std::int64_t repeats;  // rows of x per row of y
  std::int64_t splits;   // blocks that share one column of y; 1: the first stage writes y
  std::int64_t rows_per_split;
  std::int64_t pitch;  // floats per row of partial sums, a multiple of 4
  bool aligned;        // x and factor
};

ColumnPlan plan_of(const ColumnSum& args) {
  ColumnPlan plan{.x = args.x,
                  .factor = args.factor,
                  .y = args.y,
                  .repeats = args.y.rows > 0 ? args.x.rows / args.y.rows : 0,
                  .splits = 1,
                  .rows_per_split = 0,
                  .pitch = 0,
                  .aligned = false};
  if (is_dense(plan.x) && is_dense(plan.y) && (!plan.factor || is_dense(plan.factor))) {
    const std::int64_t cols = plan.y.elements();
    plan.x = {plan.x.data, plan.repeats, cols, cols, plan.x.dtype};
    if (plan.factor) plan.factor = {plan.factor.data, plan.repeats, cols, cols, plan.factor.dtype};
    plan.y = {plan.y.data, 1, cols, cols, plan.y.dtype};
  }
  plan.pitch = (plan.y.cols + 3) / 4 * 4;
  plan.aligned = are_vector_aligned({plan.x, plan.factor});
  // The splits follow from the shape even when x is not aligned: the order of the sums must not
  // depend on addresses.
  const std::int64_t width = 16 / static_cast<std::int64_t>(size_of(plan.x.dtype));
  const std::int64_t blocks = (plan.y.cols + kLanes * width - 1) / (kLanes * width) *
                              std::max<std::int64_t>(plan.y.rows, 1);
  const std::int64_t most = (plan.repeats + kMinSplitRows - 1) / kMinSplitRows;
  plan.splits = std::clamp<std::int64_t>(kColumnBlocks / std::max<std::int64_t>(blocks, 1), 1,
                                         std::max<std::int64_t>(most, 1));
  plan.rows_per_split = (plan.repeats + plan.splits - 1) / plan.splits;
  return plan;
}

/// Sums of columns: block (x, y, z) takes kLanes * kWidth columns, the rows of split y and every
/// gridDim.z-th row of the output. The output of split s begins s * split_stride elements on.
template <class T, class Out, int kWidth>
__global__ void __launch_bounds__(kThreads)
    column_sums(const T* __restrict__ x, const T* __restrict__ factor, Out* __restrict__ y,
                std::int64_t repeats, std::int64_t rows_per_split, std::int64_t y_rows,
                std::int64_t cols, std::int64_t x_stride, std::int64_t factor_stride,
                std::int64_t y_stride, std::int64_t split_stride, bool accumulate) {
  __shared__ float parts[kRowsAtOnce][kWidth][kLanes];  // lanes last: no bank conflicts
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int slice = static_cast<int>(threadIdx.x) / kLanes;
  const std::int64_t col = (std::int64_t{blockIdx.x} * kLanes + lane) * kWidth;
  const auto count = static_cast<int>(min(cols - col, std::int64_t{kWidth}));
  const std::int64_t begin = blockIdx.y * rows_per_split;
  const std::int64_t end = min(begin + rows_per_split, repeats);
  for (std::int64_t row = blockIdx.z; row < y_rows; row += gridDim.z) {
    float sum[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      sum[i] = 0.0F;
    if (count > 0) {
#pragma unroll 4
      for (std::int64_t k = begin + slice; k < end; k += kRowsAtOnce) {
        const std::int64_t from = k * y_rows + row;
        float values[kWidth];
        load_values(x + from * x_stride + col, count, values);
        if (factor != nullptr) {
          float factors[kWidth];
          load_values(factor + from * factor_stride + col, count, factors);
#pragma unroll
          for (int i = 0; i < kWidth; ++i)
            sum[i] = fmaf(values[i], factors[i], sum[i]);
        } else {
#pragma unroll
          for (int i = 0; i < kWidth; ++i)
            sum[i] += values[i];
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      parts[slice][i][lane] = sum[i];
    __syncthreads();
    if (slice == 0 && count > 0) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
#pragma unroll
        for (int k = 1; k < kRowsAtOnce; ++k)
          sum[i] += parts[k][i][lane];
      }
      write_values(y + blockIdx.y * split_stride + row * y_stride + col, count, sum, accumulate);
    }
    __syncthreads();
  }
}

template <class T, class Out>
void launch_column_sums(const ColumnPlan& plan, Out* y, std::int64_t y_stride,
                        std::int64_t split_stride, bool aligned, bool accumulate,
                        CudaStream stream) {
  dispatch_width<loop_width<T>()>(aligned, [&]<int kWidth>() {
    const dim3 grid(static_cast<unsigned>((plan.y.cols + kLanes * kWidth - 1) / (kLanes * kWidth)),
                    static_cast<unsigned>(plan.splits),
                    static_cast<unsigned>(std::min(plan.y.rows, kMaxGrid)));
    column_sums<T, Out, kWidth><<<grid, kThreads, 0, stream.handle>>>(
        plan.x.as<const T>(), plan.factor.as<const T>(), y, plan.repeats, plan.rows_per_split,
        plan.y.rows, plan.y.cols, plan.x.stride, plan.factor.stride, y_stride, split_stride,
        accumulate);
  });
}

template <class T, class Out>
void sum_columns(const ColumnSum& args, const ColumnPlan& plan, CudaStream stream) {
  const Rows& y = plan.y;
  const bool accumulate = args.write == GradWrite::accumulate;
  if (plan.splits == 1) {
    launch_column_sums<T>(plan, y.as<Out>(), y.stride, 0, plan.aligned && are_vector_aligned({y}),
                          accumulate, stream);
    return;
  }
  auto* const parts = args.workspace.as<float>();
  launch_column_sums<T>(plan, parts, plan.pitch, y.rows * plan.pitch, plan.aligned, false, stream);
  launch_add_splits(parts, y.as<Out>(), plan.splits, y.rows, y.cols, plan.pitch, y.stride,
                    accumulate, stream);
}

}  // namespace

std::int64_t workspace_bytes(const Sum& args, CudaStream) {
  return sum_blocks(args) * static_cast<std::int64_t>(sizeof(float));
}

void run(const Sum& args, CudaStream stream) {
  Rows x = args.x;
  flatten({&x});
  const std::int64_t blocks = sum_blocks(args);
  auto* const parts = args.workspace.as<float>();
  dispatch_cuda_float(x.dtype, Sum::kName, [&]<class T>() {
    dispatch_width<loop_width<T>()>(are_vector_aligned({x}), [&]<int kWidth>() {
      const std::int64_t pieces_per_row =
          std::max<std::int64_t>((x.cols + kThreads * kWidth - 1) / (kThreads * kWidth), 1);
      sum_parts<T, kWidth><<<static_cast<unsigned>(blocks), kThreads, 0, stream.handle>>>(
          x.as<const T>(), parts, x.rows * pieces_per_row, pieces_per_row, x.cols, x.stride);
    });
  });
  dispatch_cuda_float(args.y.dtype, Sum::kName, [&]<class Out>() {
    sum_total<<<1, kThreads, 0, stream.handle>>>(parts, args.y.as<Out>(), static_cast<int>(blocks),
                                                 static_cast<float>(args.factor));
  });
}

std::int64_t workspace_bytes(const ColumnSum& args, CudaStream) {
  const ColumnPlan plan = plan_of(args);
  if (plan.splits == 1) return 0;
  return plan.splits * plan.y.rows * plan.pitch * static_cast<std::int64_t>(sizeof(float));
}

void run(const ColumnSum& args, CudaStream stream) {
  if (args.write == GradWrite::skip || args.y.elements() == 0) return;
  const ColumnPlan plan = plan_of(args);
  dispatch_cuda_float(args.x.dtype, ColumnSum::kName, [&]<class T>() {
    if (args.y.dtype == args.x.dtype) {
      sum_columns<T, T>(args, plan, stream);
    } else {
      sum_columns<T, float>(args, plan, stream);
    }
  });
}

}  // namespace lamina::kernels
