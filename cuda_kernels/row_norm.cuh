// SPDX-License-Identifier: MIT
// What the row kernels of LayerNorm and RMSNorm share: which thread has which elements, parameters,
// dropout, sums over a row, and rows on their way to shared memory. T is the type of y and dy, S
// that of the residual stream: the same, or f32 for 16-bit T.
#pragma once

#include "core/check.h"
#include "core/kernels/layer_norm.h"
#include "cuda_kernels/cluster_count.h"
#include "cuda_kernels/device/drop_mask.cuh"
#include "cuda_kernels/device/vector.cuh"
#include "cuda_kernels/device/warp.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/launch_kernel.cuh"
#include "cuda_kernels/row_norm.h"
#include "cuda_kernels/row_sum.cuh"
#include "cuda_kernels/tuning/layer_norm.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

namespace lamina::kernels::row_norm {

using device::DropMask;
using device::Pack;
using tuning::RowPolicy;
using tuning::RowProblem;
using tuning::RowVariant;

inline constexpr int kMaxThreads = tuning::kMaxRowThreads;

/// Elements of a pack: 16 bytes of the wider type.
template <class T, class S>
inline constexpr int kPackWidth = 16 /
                                  static_cast<int>(sizeof(S) > sizeof(T) ? sizeof(S) : sizeof(T));

/// First element of row `row`.
template <class T>
__device__ __forceinline__ T* row_of(const Rows& view, std::int64_t row) {
  return static_cast<T*>(view.data) + row * view.stride;
}

/// Starts to bring memory into the second-level cache, in one instruction; nothing below sm_90.
/// `from` and `bytes` are multiples of 16.
__device__ __forceinline__ void prefetch(const void* from, unsigned bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

/// Weight and bias. All blocks read them, and the first ones all at a time, once they have their
/// moments: that they find them in the cache takes one thread of the grid. Allowed before
/// wait_for_previous_kernel(): it changes nothing that a later read sees.
template <class W, int kWidth>
__device__ __forceinline__ void prefetch_parameters(const Flat& weight, const Flat& bias) {
  if constexpr (kWidth > 1) {  // else they may lie anywhere
    if (blockIdx.x != 0 || threadIdx.x != 0 || threadIdx.y != 0) return;
    constexpr std::size_t kMost = 1 << 20;
    for (const Flat& parameter : {weight, bias}) {
      const std::size_t bytes = static_cast<std::size_t>(parameter.size) * sizeof(W);
      if (parameter.data == nullptr) continue;
      prefetch(parameter.data, static_cast<unsigned>(std::min(bytes, kMost)));
    }
  }
}

/// 1 in each element of a word of W.
template <class W>
inline constexpr unsigned kOnes = 0x3f800000U;
template <>
inline constexpr unsigned kOnes<__half> = 0x3c003c00U;
template <>
inline constexpr unsigned kOnes<__nv_bfloat16> = 0x3f803f80U;

/// kWidth elements of a weight or bias in their own type.
template <class W, int kWidth, device::Keep kKeep = device::Keep::cached>
class Parameters {
 public:
  /// Reads them; `fill` in each word when there is no such operand or `valid` is false.
  __device__ __forceinline__ Parameters(const Flat& parameter, int col, bool valid, unsigned fill) {
    const bool is_there = valid && parameter.data != nullptr;
    const W* const from = static_cast<const W*>(parameter.data) + col;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      pieces_[i] = device::load_pack_if<kPiece, kKeep>(from + i * kPiece, is_there, fill);
    }
  }

  Parameters() = default;

  __device__ __forceinline__ void get(float (&to)[kWidth]) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      float piece[kPiece];
      device::to_floats(pieces_[i], piece);
#pragma unroll
      for (int j = 0; j < kPiece; ++j)
        to[i * kPiece + j] = piece[j];
    }
  }

 private:
  static constexpr int kPiece = std::min(kWidth, device::kVectorWidth<W>);
  static constexpr int kPieces = kWidth / kPiece;
  Pack<W, kPiece> pieces_[kPieces];
};

/// residual + dropout(x), rounded to S; `kept` are mask.kept() of the elements.
template <class S, class T, int kWidth>
__device__ __forceinline__ Pack<S, kWidth> add_residual(const Pack<T, kWidth>& x,
                                                        const Pack<S, kWidth>& residual,
                                                        const DropMask& mask, unsigned kept) {
  float sum[kWidth];
  float added[kWidth];
  device::to_floats(residual, sum);
  device::to_floats(x, added);
  if (mask.drops()) mask.apply(added, kept);
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    sum[i] += added[i];
  return device::from_floats<S>(sum);
}

/// mask.kept() of kPacks packs, from the lowest bits on; the first begins with element `first` of
/// the operand, the others lie `pitch` apart. Zeros where nothing is dropped.
template <int kWidth, int kPacks = 1>
__device__ __forceinline__ unsigned kept_elements(const DropMask& mask, std::int64_t first,
                                                  int pitch = 0) {
  static_assert(kWidth * kPacks <= 32);
  unsigned kept = 0;
  if (mask.drops()) {
    const std::uint64_t offset = mask.offset();
#pragma unroll 1  // more at once would take registers from what is on its way
    for (int p = 0; p < kPacks; ++p)
      kept |= mask.kept<kWidth>(offset, static_cast<std::uint64_t>(first + p * pitch))
              << (p * kWidth);
  }
  return kept;
}

/// Sum of a pack by halves: short chains of dependent additions.
template <int kWidth>
__device__ __forceinline__ float pairwise_sum(const float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    return values[0];
  } else {
    float halves[kWidth / 2];
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i)
      halves[i] = values[i] + values[i + kWidth / 2];
    return pairwise_sum(halves);
  }
}

/// Which elements of a row a thread has. The row belongs to the threads with its threadIdx.y, in
/// all blocks of the cluster if there are several; neighbours have neighbouring packs.
struct RowThreads {
  int index;  // of this thread among those of the row
  int count;
  int group;   // of this block (cluster) in the grid: it works on blockDim.y rows at a time
  int groups;  // in the grid

  template <RowReach kReach>
  static __device__ __forceinline__ RowThreads of_block() {
    const int x = static_cast<int>(threadIdx.x);
    const int threads = static_cast<int>(blockDim.x);
    if constexpr (kReach == RowReach::cluster) {
      const auto blocks = static_cast<int>(Cluster::blocks());
      return {static_cast<int>(Cluster::rank()) * threads + x, blocks * threads,
              static_cast<int>(blockIdx.x) / blocks, static_cast<int>(gridDim.x) / blocks};
    } else {
      return {x, threads, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)};
    }
  }

  template <int kWidth>
  __device__ __forceinline__ int column(int pack) const {
    return (pack * count + index) * kWidth;
  }
};

/// Starts a copy of one pack to shared memory, past the first-level cache if it is 16 bytes.
template <class Packed>
__device__ __forceinline__ void copy_async(Packed* shared, const Packed* global) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  if constexpr (sizeof(Packed) == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
  } else if constexpr (sizeof(Packed) == 8 || sizeof(Packed) == 4) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global),
                 "n"(sizeof(Packed))
                 : "memory");
  } else {
    *shared = *global;
  }
}

/// Ends a group of copies; every thread ends as many groups as the others, empty ones too.
__device__ __forceinline__ void end_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits for the first of the `stages` (2 or 3) groups of copies that this thread ended last.
__device__ __forceinline__ void wait_for_stage(int stages) {
  if (stages == 2) {
    asm volatile("cp.async.wait_group 1;" ::: "memory");
  } else {
    asm volatile("cp.async.wait_group 2;" ::: "memory");
  }
}

/// Waits until none is on its way.
__device__ __forceinline__ void wait_for_all_copies() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}

/// This thread's packs of one operand's row in shared memory, which has room for kThreads threads.
/// A thread reads only what it copied there itself, so rows need no barrier.
template <class X, int kWidth, int kPacks, int kThreads>
struct StagedPacks {
  using Packed = Pack<X, kWidth>;
  static constexpr int kBytes = kThreads * kPacks * static_cast<int>(sizeof(Packed));

  Packed* own;

  /// `thread` of the block.
  __device__ __forceinline__ StagedPacks(std::byte* base, int thread)
      : own(reinterpret_cast<Packed*>(base) + thread) {}

  __device__ __forceinline__ Packed operator[](int pack) const {
    return device::load_pack<kWidth>(reinterpret_cast<const X*>(own + pack * kThreads));
  }

  __device__ __forceinline__ void clear_beyond(const RowThreads& threads, int cols) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      if (threads.column<kWidth>(p) >= cols) own[p * kThreads] = Packed{};
  }

  /// `from` is this thread's first element of the row.
  __device__ __forceinline__ void fetch(const X* from, const RowThreads& threads, int cols) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (threads.column<kWidth>(p) >= cols) continue;
      copy_async(own + p * kThreads,
                 reinterpret_cast<const Packed*>(from + p * threads.count * kWidth));
    }
  }
};

/// True when all operands of a row kernel allow 16-byte accesses.
inline bool allows_vectors(std::initializer_list<Rows> matrices,
                           std::initializer_list<Flat> vectors) {
  bool allowed = true;
  for (const Rows& view : matrices) {
    const auto bytes = static_cast<std::int64_t>(size_of(view.dtype));
    allowed = allowed && view.cols * bytes % 16 == 0 &&
              device::is_vector_aligned(view.data, view.stride, bytes);
  }
  for (const Flat& view : vectors)
    allowed = allowed && device::is_vector_aligned(view.data);
  return allowed;
}

/// Columns and row numbers fit what the kernels count with.
inline void check_extents(std::string_view op, const Rows& x) {
  LAMINA_CHECK(x.cols < (std::int64_t{1} << 30) && x.rows < (std::int64_t{1} << 31), op, ": x has ",
               x.rows, " rows of ", x.cols, ", expected below 2^31 of below 2^30");
}

/// What the tables are asked for, without what is particular to a direction.
inline RowProblem row_problem(std::string_view op, const Rows& x, DType element, DType stream_dtype,
                              CudaStream stream) {
  check_extents(op, x);
  const DeviceInfo& gpu = device_info({DeviceKind::cuda, stream.device});
  RowProblem problem{};
  problem.rows = x.rows;
  problem.cols = x.cols;
  problem.element_bytes = static_cast<int>(size_of(element));
  problem.stream_bytes = static_cast<int>(size_of(stream_dtype));
  problem.sm = gpu.compute_capability;
  problem.multiprocessors = gpu.multiprocessors;
  for (int i = 0; i < 3; ++i)
    problem.clusters[i] = clusters_at_once(2 << i, stream.device);
  return problem;
}

inline void check_policy(bool has_kernel, const RowPolicy& policy, const RowProblem& problem,
                         std::string_view op) {
  LAMINA_CHECK(has_kernel, op, ": the policy ", policy.packs, " packs, ", policy.block_threads,
               " threads, cluster ", policy.cluster, ", stages ", policy.stages, " cannot do [",
               problem.rows, ", ", problem.cols, "]");
}

/// Local memory per thread, bytes.
template <class Kernel>
std::int64_t local_bytes(Kernel kernel) {
  cudaFuncAttributes attributes{};
  LAMINA_CUDA_CHECK(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)));
  return static_cast<std::int64_t>(attributes.localSizeBytes);
}

/// Readies a row kernel for a launch with that much dynamic shared memory. The limit belongs to the
/// kernel and not to the launch, so it is always set to the same.
inline void prepare_kernel(const void* kernel, std::size_t shared_bytes, int sm) {
  constexpr std::size_t kAlwaysAllowed = 40 << 10;
  if (shared_bytes <= kAlwaysAllowed) return;
  LAMINA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         tuning::shared_limit(sm)));
}

/// Calls f.operator()<T, S, W>() for the types of y (or dy), of the stream and of the parameters.
template <class F>
void dispatch_types(std::string_view op, DType dtype, DType stream, const Flat& parameter, F&& f) {
  const DType parameters = parameter ? parameter.dtype : dtype;
  for (const DType other : {stream, parameters}) {
    LAMINA_CHECK(other == dtype || other == DType::f32, op, ": an operand is ", other, " beside ",
                 dtype, ", expected the same dtype or f32");
  }
  dispatch_cuda_float(dtype, op, [&]<class T>() {
    dispatch_bool(stream == dtype, [&]<bool kSameStream>() {
      dispatch_bool(parameters == dtype, [&]<bool kSameParameters>() {
        // With T = float there is nothing wider.
        if constexpr (sizeof(T) == 2 || (kSameStream && kSameParameters)) {
          f.template operator()<T, std::conditional_t<kSameStream, T, float>,
                                std::conditional_t<kSameParameters, T, float>>();
        }
      });
    });
  });
}

}  // namespace lamina::kernels::row_norm
