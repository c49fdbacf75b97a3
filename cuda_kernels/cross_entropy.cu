// SPDX-License-Identifier: MIT
// Softmax cross-entropy on CUDA. Forward: one pass over the logits with running maximum and sum (a
// warp per row up to 1024 classes, else a block), then one block adds the losses in a fixed order.
// With dlogits the same threads go over their row again: long rows wait for that in shared memory
// (cross_entropy_staged.cuh), others are still in a cache. A thread writes only elements that it
// alone reads, so dlogits may be logits. Backward: a body for row_loop that needs only lse, and
// reads the gradient of the loss and the number of rows from device memory.
#include "core/kernels/cross_entropy.h"
#include "cuda_kernels/cross_entropy_row.cuh"
#include "cuda_kernels/cross_entropy_staged.cuh"
#include "cuda_kernels/device/exp_sum.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/launch_kernel.cuh"
#include "cuda_kernels/row_loop.cuh"

namespace lamina::kernels {
namespace {

using namespace cross_entropy;

constexpr int kWarpThreads = 128;  // four rows per block
constexpr int kBlockThreads = 256;
constexpr int kMeanThreads = 1024;
constexpr std::int64_t kWarpColumns = 1024;  // longest row of a warp
constexpr std::int64_t kMaxBlocks = 1 << 20;

/// Threads of a block whose rows belong to groups of kGroup threads.
template <int kGroup>
inline constexpr int kThreads = kGroup == device::kWarpSize ? kWarpThreads : kBlockThreads;

template <class T, int kGroup, int kWidth, bool kHasGradient>
__global__ void __launch_bounds__(kThreads<kGroup>) cross_entropy_rows(const ForwardArgs<T> args) {
  constexpr int kRows = kThreads<kGroup> / kGroup;
  const int lane = static_cast<int>(threadIdx.x) % kGroup;
  const auto at_most_width = [](std::int64_t count) {
    return static_cast<int>(min(count, std::int64_t{kWidth}));
  };
  for (std::int64_t row = std::int64_t{blockIdx.x} * kRows + threadIdx.x / kGroup; row < args.rows;
       row += std::int64_t{gridDim.x} * kRows) {
    const T* from = args.logits + row * args.stride;
    const Target target = args.target(row);
    device::ExpSum total;
    for (std::int64_t col = std::int64_t{lane} * kWidth; col < args.classes;
         col += kGroup * kWidth) {
      float values[kWidth];
      load_values(from + col, at_most_width(args.classes - col), values, -__builtin_huge_valf());
      total.add(values);
    }
    total.combine<kGroup>();
    const int owner = target.is_class ? target.index / kWidth % kGroup : 0;
    if (lane == owner) {
      const float logit = target.is_class ? device::to_float(from[target.index]) : 0.0F;
      args.write_loss(row, target, total.log(), logit);
    }
    if constexpr (kHasGradient) {
      wait_for_previous_kernel();  // for the count; all else was there before that one started
      T* to = args.dlogits + row * args.dstride;
      const GradientRow gradient = args.gradient(target, total);
      for (std::int64_t col = std::int64_t{lane} * kWidth; col < args.cols;
           col += kGroup * kWidth) {
        const int count = at_most_width(args.cols - col);
        float values[kWidth];
        load_values(from + col, count, values);
        gradient.apply(values, col, args.classes);
        store_values(to + col, count, values);
      }
    }
  }
}

/// Number of rows that count; one block. Nothing that the next kernel is to read but the count is
/// under way.
__global__ void __launch_bounds__(kMeanThreads)
    count_targets(const std::int32_t* __restrict__ targets, float* __restrict__ count,
                  std::int64_t rows, std::int32_t ignore_index) {
  start_next_kernel();
  float used = 0.0F;
#pragma unroll 8
  for (std::int64_t row = threadIdx.x; row < rows; row += kMeanThreads)
    used += targets[row] != ignore_index ? 1.0F : 0.0F;
  used = device::block_sum(used);
  if (threadIdx.x == 0) *count = used;
}

/// loss = sum of the losses / count; one block.
__global__ void __launch_bounds__(kMeanThreads)
    cross_entropy_mean(const float* __restrict__ losses, const std::int32_t* __restrict__ targets,
                       float* __restrict__ loss, float* __restrict__ count, std::int64_t rows,
                       std::int32_t ignore_index) {
  wait_for_previous_kernel();
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
    GradientRow gradient;
  };

  __device__ Row row(std::int64_t row) const {
    const Target target{targets[row], ignore_index, classes};
    return {logits + row * stride,
            dlogits + row * dstride,
            {lse[row] * device::kLog2E, target.if_class(__fdividef(*dloss, *count)), target}};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count_here) const {
    float values[kWidth];
    load_values(row.logits + col, count_here, values);
    row.gradient.apply(values, col, classes);
    write_values(row.dlogits + col, count_here, values, accumulate);
  }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kBlockThreads)
    scale_rows(T* values, const float* __restrict__ factor, const float* __restrict__ count,
               std::int64_t rows, std::int64_t cols, std::int64_t stride) {
  wait_for_previous_kernel();
  const float by = !count ? *factor : *count > 0.0F ? *factor / *count : 0.0F;
  if (by == 1.0F) return;
  for (std::int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (std::int64_t col = std::int64_t{threadIdx.x} * kWidth; col < cols;
         col += kBlockThreads * kWidth) {
      T* const at = values + row * stride + col;
      const auto count = static_cast<int>(min(cols - col, std::int64_t{kWidth}));
      float here[kWidth];
      load_values(at, count, here);
#pragma unroll
      for (float& value : here)
        value *= by;
      store_values(at, count, here);
    }
  }
}

template <class T>
void launch_rows(const CrossEntropy& args, CudaStream stream) {
  const bool aligned = are_vector_aligned({args.logits, args.dlogits});
  dispatch_bool(args.classes <= kWarpColumns, [&]<bool kIsShort>() {
    constexpr int kGroup = kIsShort ? device::kWarpSize : kBlockThreads;
    constexpr std::int64_t kRows = kThreads<kGroup> / kGroup;
    const auto blocks =
        static_cast<unsigned>(std::min((args.logits.rows + kRows - 1) / kRows, kMaxBlocks));
    dispatch_width<loop_width<T>()>(aligned, [&]<int kWidth>() {
      if (args.dlogits) {
        launch_kernel(cross_entropy_rows<T, kGroup, kWidth, true>,
                      {.grid = dim3(blocks),
                       .block = dim3(kThreads<kGroup>),
                       .may_start_early = starts_early(args)},
                      stream, forward_args<T>(args));
      } else {
        cross_entropy_rows<T, kGroup, kWidth, false>
            <<<blocks, kThreads<kGroup>, 0, stream.handle>>>(forward_args<T>(args));
      }
    });
  });
}

}  // namespace

void run(const CrossEntropy& args, CudaStream stream) {
  const std::int64_t rows = args.logits.rows;
  const auto* targets = args.targets.as<const std::int32_t>();
  if (starts_early(args)) {
    // Not by launch_kernel(): the kernel after it reads logits before it waits, so all that was
    // queued before must be complete when this one starts.
    count_targets<<<1, kMeanThreads, 0, stream.handle>>>(targets, args.count.as<float>(), rows,
                                                         args.ignore_index);
  }
  if (rows > 0) {
    const DeviceInfo& gpu = device_info({DeviceKind::cuda, stream.device});
    dispatch_cuda_float(args.logits.dtype, CrossEntropy::kName, [&]<class T>() {
      if (can_stage<T>(args, gpu)) {
        launch_staged<T>(args, gpu, stream);
      } else {
        launch_rows<T>(args, stream);
      }
    });
  }
  if (!args.loss) return;
  run(CrossEntropyMean{args.losses, args.targets, args.ignore_index, args.loss, args.count},
      stream);
}

void run(const CrossEntropyMean& args, CudaStream stream) {
  launch_kernel(cross_entropy_mean, {.grid = dim3(1), .block = dim3(kMeanThreads)}, stream,
                args.losses.as<const float>(), args.targets.as<const std::int32_t>(),
                args.loss.as<float>(), args.count.as<float>(), args.losses.size, args.ignore_index);
}

void run(const CrossEntropyScale& args, CudaStream stream) {
  constexpr int kBlocksAtOnce = 8;  // per multiprocessor; few, as they seldom have anything to do
  const Rows& gradient = args.gradient;
  if (gradient.elements() == 0) return;
  const std::int64_t room =
      std::int64_t{kBlocksAtOnce} * device_info({DeviceKind::cuda, stream.device}).multiprocessors;
  const auto blocks = static_cast<unsigned>(std::min(gradient.rows, room));
  dispatch_cuda_float(gradient.dtype, CrossEntropyScale::kName, [&]<class T>() {
    dispatch_width<loop_width<T>()>(are_vector_aligned({gradient}), [&]<int kWidth>() {
      launch_kernel(scale_rows<T, kWidth>, {.grid = dim3(blocks), .block = dim3(kBlockThreads)},
                    stream, gradient.as<T>(), args.dloss.as<const float>(),
                    args.count.as<const float>(), gradient.rows, gradient.cols, gradient.stride);
    });
  });
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
