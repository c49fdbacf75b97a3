// SPDX-License-Identifier: MIT
// Losses and gradients of long rows, such as a language model's vocabulary: a row waits in shared
// memory between the two passes over it, so that memory sees one read and one write. Used by
// cross_entropy.cu.
#pragma once

#include "core/cuda/check.h"
#include "core/device.h"
#include "cuda_kernels/cross_entropy_row.cuh"
#include "cuda_kernels/launch_kernel.cuh"
#include "cuda_kernels/row_loop.cuh"

#include <algorithm>
#include <cstdint>

namespace lamina::kernels::cross_entropy {

// Of the variants that were tried (docs/performance.md). H200, [65536, 50304] bf16: 3.50 ms with
// 256, 384 or 512 threads, 4.87 ms with 128; 4.32 ms with ordinary stores; two passes 4.83 ms.
// [16384, 32768], no staging: 0.70 to 0.80 ms; [16384, 16384]: 0.33 ms, which staging would have to
// beat.
inline constexpr int kStagedThreads = 512;
inline constexpr int kParts = 4;  // of a row, whose copies arrive one by one
inline constexpr std::int64_t kLeastStagedBytes = 48 << 10;  // of a row
inline constexpr std::int64_t kStaticBytes = 1 << 10;        // of shared memory in a block, at most

/// Combines the sums of all threads of a block with one barrier. Two calls in a row need different
/// memory.
__device__ __forceinline__ void combine_block(device::ExpSum& total,
                                              float2 (&per_warp)[device::kWarpSize]) {
  total.combine<device::kWarpSize>();
  const int lane = static_cast<int>(threadIdx.x) % device::kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / device::kWarpSize;
  if (lane == 0) per_warp[threadIdx.x / device::kWarpSize] = {total.reference, total.sum};
  __syncthreads();
  total = {};
  if (lane < warps) {
    total.reference = per_warp[lane].x;
    total.sum = per_warp[lane].y;
  }
  total.combine<device::kWarpSize>();
}

/// Writes 16 bytes that no one reads before the cache has been used up.
template <class T, int kWidth>
__device__ __forceinline__ void store_streaming(T* to, const device::Pack<T, kWidth>& pack) {
  static_assert(sizeof(pack) == 16);
  uint4 words;
  __builtin_memcpy(&words, &pack, sizeof(pack));
  __stcs(reinterpret_cast<uint4*>(to), words);
}

/// A row of logits in shared memory. Each thread copies packs of its own, which no others read: a
/// wait needs no barrier, and a pack can be replaced as soon as it has been used. The copies arrive
/// in kParts parts.
template <class T>
class StagedRow {
 public:
  static constexpr int kWidth = device::kVectorWidth<T>;
  static constexpr int kStep = kStagedThreads * kWidth;  // from one pack of a thread to the next

  __device__ __forceinline__ StagedRow(const ForwardArgs<T>& args, uint4* shared)
      : args_(args),
        shared_(reinterpret_cast<T*>(shared)),
        classes_(static_cast<int>(args.classes)),
        part_elements_((classes_ + kParts * kStep - 1) / (kParts * kStep) * kStep) {}

  /// Calls f(column) for the packs of this thread in a part.
  template <class F>
  __device__ __forceinline__ void for_each_pack(int part, const F& f) const {
    const int end = min((part + 1) * part_elements_, classes_);
    for (int col = part * part_elements_ + static_cast<int>(threadIdx.x) * kWidth; col < end;
         col += kStep)
      f(col);
  }

  /// Starts to copy a pack of row `row`, if there is such a row.
  __device__ __forceinline__ void copy(std::int64_t row, int col) const {
    if (row >= args_.rows) return;
    const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared_ + col));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to),
                 "l"(args_.logits + row * args_.stride + col)
                 : "memory");
  }

  __device__ __forceinline__ void end_part() const {
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  /// `part` is a constant where the loop over parts is unrolled.
  __device__ __forceinline__ void wait_for_part(int part) const {
    static_assert(kParts == 4);
    if (part == 0) asm volatile("cp.async.wait_group 3;" ::: "memory");
    if (part == 1) asm volatile("cp.async.wait_group 2;" ::: "memory");
    if (part == 2) asm volatile("cp.async.wait_group 1;" ::: "memory");
    if (part == 3) asm volatile("cp.async.wait_group 0;" ::: "memory");
  }

  __device__ __forceinline__ float at(int col) const { return device::to_float(shared_[col]); }

  __device__ __forceinline__ void read(int col, float (&values)[kWidth]) const {
    device::to_floats(device::load_pack<kWidth>(shared_ + col), values);
  }

  /// The same with -infinity for what is no class.
  __device__ __forceinline__ void read_classes(int col, float (&values)[kWidth]) const {
    read(col, values);
    if (col + kWidth <= classes_) return;
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      values[i] = col + i < classes_ ? values[i] : -__builtin_huge_valf();
  }

  /// Writes zeros behind the last pack with classes.
  __device__ __forceinline__ void write_padding(T* to) const {
    const int used = (classes_ + kWidth - 1) / kWidth * kWidth;
    for (std::int64_t col = used + static_cast<int>(threadIdx.x) * kWidth; col < args_.cols;
         col += kStep)
      device::store_pack(to + col, device::Pack<T, kWidth>{});
  }

 private:
  const ForwardArgs<T>& args_;
  T* const shared_;  // [classes_, rounded up to packs]
  const int classes_;
  const int part_elements_;
};

/// Losses and gradients of rows that are read from memory once: a block sums up a row as it arrives
/// and, while it writes the gradient, asks for its next row. Two blocks share a multiprocessor, so
/// that one reads while the other writes.
template <class T>
__global__ void __launch_bounds__(kStagedThreads, 2)
    cross_entropy_staged(const ForwardArgs<T> args) {
  constexpr int kWidth = device::kVectorWidth<T>;
  extern __shared__ uint4 shared[];
  __shared__ float2 per_warp[2][device::kWarpSize];
  const StagedRow<T> staged(args, shared);
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    staged.for_each_pack(part, [&](int col) { staged.copy(blockIdx.x, col); });
    staged.end_part();
  }
  wait_for_previous_kernel();  // for the count; all else was there before that one started
  int parity = 0;
  for (std::int64_t row = blockIdx.x; row < args.rows; row += gridDim.x, parity ^= 1) {
    const Target target = args.target(row);
    device::ExpSum total;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      staged.wait_for_part(part);
      staged.for_each_pack(part, [&](int col) {
        float values[kWidth];
        staged.read_classes(col, values);
        total.add(values);
      });
    }
    combine_block(total, per_warp[parity]);
    const int owner = target.is_class ? target.index / kWidth % kStagedThreads : 0;
    if (static_cast<int>(threadIdx.x) == owner) {
      args.write_loss(row, target, total.log(), target.is_class ? staged.at(target.index) : 0.0F);
    }
    const GradientRow gradient = args.gradient(target, total);
    T* const to = args.dlogits + row * args.dstride;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      staged.for_each_pack(part, [&](int col) {
        float values[kWidth];
        staged.read(col, values);
        staged.copy(row + gridDim.x, col);
        gradient.apply(values, col, args.classes);
        store_streaming(to + col, device::from_floats<T>(values));
      });
      staged.end_part();
    }
    staged.write_padding(to);
  }
}

/// Shared memory of a staged row.
template <class T>
std::int64_t staged_bytes(const CrossEntropy& args) {
  constexpr std::int64_t kWidth = device::kVectorWidth<T>;
  return 16 * ((args.classes + kWidth - 1) / kWidth);
}

template <class T>
bool can_stage(const CrossEntropy& args, const DeviceInfo& gpu) {
  const std::int64_t bytes = staged_bytes<T>(args);
  return args.dlogits && are_vector_aligned({args.logits, args.dlogits}) &&
         args.logits.cols % device::kVectorWidth<T> == 0 && bytes >= kLeastStagedBytes &&
         bytes + kStaticBytes <= static_cast<std::int64_t>(gpu.shared_per_block);
}

template <class T>
void launch_staged(const CrossEntropy& args, const DeviceInfo& gpu, CudaStream stream) {
  constexpr std::int64_t kDriverBytes = 1 << 10;  // of shared memory for each block
  const std::int64_t bytes = staged_bytes<T>(args);
  const auto limit = static_cast<std::int64_t>(gpu.shared_per_block);
  const bool has_two = 2 * (bytes + kStaticBytes) + kDriverBytes <= limit;
  const auto blocks =
      std::min<std::int64_t>(args.logits.rows, (has_two ? 2 : 1) * gpu.multiprocessors);
  // The limit belongs to the kernel and not to the launch, so it is always set to the same.
  LAMINA_CUDA_CHECK(cudaFuncSetAttribute(cross_entropy_staged<T>,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(limit - kStaticBytes)));
  launch_kernel(cross_entropy_staged<T>,
                {.grid = dim3(static_cast<unsigned>(blocks)),
                 .block = dim3(kStagedThreads),
                 .shared_bytes = static_cast<std::size_t>(bytes),
                 .may_start_early = starts_early(args)},
                stream, forward_args<T>(args));
}

}  // namespace lamina::kernels::cross_entropy
