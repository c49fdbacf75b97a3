// SPDX-License-Identifier: MIT
// Softmax cross-entropy on CUDA. Forward: one pass over the logits with running maximum and sum (a
// warp per row up to 1024 classes, else a block), then one block adds the losses in a fixed order.
// Backward: a body for row_loop that needs only lse, and reads the gradient of the loss and the
// number of rows from device memory.
#include "core/kernels/cross_entropy.h"
#include "cuda_kernels/device/exp_sum.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

namespace lamina::kernels {
namespace {

constexpr int kWarpThreads = 128;  // four rows per block
constexpr int kBlockThreads = 256;
constexpr int kMeanThreads = 1024;
constexpr std::int64_t kWarpColumns = 1024;  // longest row of a warp
constexpr std::int64_t kMaxBlocks = 1 << 20;

/// Threads of a block whose rows belong to groups of kGroup threads.
template <int kGroup>
inline constexpr int kThreads = kGroup == device::kWarpSize ? kWarpThreads : kBlockThreads;

template <class T, int kGroup, int kWidth>
__global__ void __launch_bounds__(kThreads<kGroup>)
    cross_entropy_rows(const T* __restrict__ logits, const std::int32_t* __restrict__ targets,
                       float* __restrict__ losses, float* __restrict__ lse, std::int64_t rows,
                       std::int64_t classes, std::int64_t stride, std::int32_t ignore_index) {
  constexpr int kRows = kThreads<kGroup> / kGroup;
  const int lane = static_cast<int>(threadIdx.x) % kGroup;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kRows + threadIdx.x / kGroup; row < rows;
       row += std::int64_t{gridDim.x} * kRows) {
    const T* from = logits + row * stride;
    device::ExpSum total;
    for (std::int64_t col = std::int64_t{lane} * kWidth; col < classes; col += kGroup * kWidth) {
      float values[kWidth];
      load_values(from + col, static_cast<int>(min(classes - col, std::int64_t{kWidth})), values,
                  -__builtin_huge_valf());
      total.add(values);
    }
    total.combine<kGroup>();
    if (lane != 0) continue;
    const std::int32_t target = targets[row];
    const float log_sum = total.log();
    float loss = 0.0F;
    if (target != ignore_index) {
      const bool is_class = target >= 0 && target < classes;
      loss = is_class ? log_sum - device::to_float(from[target]) : __int_as_float(0x7fffffff);
    }
    losses[row] = loss;
    lse[row] = log_sum;
  }
}

/// loss = sum of the losses / count; one block.
__global__ void __launch_bounds__(kMeanThreads)
    cross_entropy_mean(const float* __restrict__ losses, const std::int32_t* __restrict__ targets,
                       float* __restrict__ loss, float* __restrict__ count, std::int64_t rows,
                       std::int32_t ignore_index) {
  float sum = 0.0F;
  float used = 0.0F;
#pragma unroll 4
  for (std::int64_t row = threadIdx.x; row < rows; row += kMeanThreads) {
    sum += losses[row];
    used += targets[row] != ignore_index ? 1.0F : 0.0F;
  }
  sum = device::block_sum(sum);
  used = device::block_sum(used);
  if (threadIdx.x == 0) {
    *loss = used > 0.0F ? sum / used : 0.0F;
    *count = used;
  }
}

template <class T, int kWidth>
struct CrossEntropyBackwardBody {
  const T* logits;
  const std::int32_t* targets;
  const float* lse;
  const float* count;
  const float* dloss;
  T* dlogits;
  std::int64_t stride, dstride;
  std::int64_t classes;
  std::int32_t ignore_index;
  bool accumulate;

  struct Row {
    const T* logits;
    T* dlogits;
    float reference;  // lse times log2(e)
    float factor;     // dloss / count; NaN for a bad target
    std::int64_t target;
    bool is_ignored;
  };

  __device__ Row row(std::int64_t row) const {
    const std::int32_t target = targets[row];
    const bool is_ignored = target == ignore_index;
    const bool is_bad = !is_ignored && (target < 0 || target >= classes);
    return {logits + row * stride,
            dlogits + row * dstride,
            lse[row] * device::kLog2E,
            is_bad ? __int_as_float(0x7fffffff) : __fdividef(*dloss, *count),
            target,
            is_ignored};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count_here) const {
    float values[kWidth];
    if (row.is_ignored) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] = 0.0F;
    } else {
      load_values(row.logits + col, count_here, values);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float probability =
            device::exp2_fast(fmaf(values[i], device::kLog2E, -row.reference));
        const float hit = col + i == row.target ? 1.0F : 0.0F;
        values[i] = col + i < classes ? (probability - hit) * row.factor : 0.0F;
      }
    }
    write_values(row.dlogits + col, count_here, values, accumulate);
  }
};

}  // namespace

std::int64_t workspace_bytes(const CrossEntropy&, CudaStream) {
  return 0;
}

void run(const CrossEntropy& args, CudaStream stream) {
  const Rows& logits = args.logits;
  const auto* targets = args.targets.as<const std::int32_t>();
  if (logits.rows > 0) {
    const bool aligned = are_vector_aligned({logits});
    dispatch_cuda_float(logits.dtype, CrossEntropy::kName, [&]<class T>() {
      const auto launch_groups = [&]<int kGroup>() {
        constexpr std::int64_t kRows = kThreads<kGroup> / kGroup;
        const auto blocks =
            static_cast<unsigned>(std::min((logits.rows + kRows - 1) / kRows, kMaxBlocks));
        dispatch_width<loop_width<T>()>(aligned, [&]<int kWidth>() {
          cross_entropy_rows<T, kGroup, kWidth><<<blocks, kThreads<kGroup>, 0, stream.handle>>>(
              logits.as<const T>(), targets, args.losses.as<float>(), args.lse.as<float>(),
              logits.rows, args.classes, logits.stride, args.ignore_index);
        });
      };
      if (args.classes <= kWarpColumns) {
        launch_groups.template operator()<device::kWarpSize>();
      } else {
        launch_groups.template operator()<kBlockThreads>();
      }
    });
  }
  cross_entropy_mean<<<1, kMeanThreads, 0, stream.handle>>>(
      args.losses.as<const float>(), targets, args.loss.as<float>(), args.count.as<float>(),
      logits.rows, args.ignore_index);
}

void run(const CrossEntropyBackward& args, CudaStream stream) {
  if (args.write == GradWrite::skip) return;
  const Rows& logits = args.logits;
  const Rows& dlogits = args.dlogits;
  dispatch_cuda_float(logits.dtype, CrossEntropyBackward::kName, [&]<class T>() {
    dispatch_width<loop_width<T>()>(are_vector_aligned({logits, dlogits}), [&]<int kWidth>() {
      const CrossEntropyBackwardBody<T, kWidth> body{
          .logits = logits.as<const T>(),
          .targets = args.targets.as<const std::int32_t>(),
          .lse = args.lse.as<const float>(),
          .count = args.count.as<const float>(),
          .dloss = args.dloss.as<const float>(),
          .dlogits = dlogits.as<T>(),
          .stride = logits.stride,
          .dstride = dlogits.stride,
          .classes = args.classes,
          .ignore_index = args.ignore_index,
          .accumulate = args.write == GradWrite::accumulate};
      launch_row_loop<kWidth>(logits.rows, logits.cols, body, stream);
    });
  });
}

}  // namespace lamina::kernels
