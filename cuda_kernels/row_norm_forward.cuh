// SPDX-License-Identifier: MIT
// Forward pass of LayerNorm and RMSNorm on CUDA: the kernels with a block per group of rows, and
// which kernel a policy means. One holds the row in registers (variant held), one reads it again in
// each pass, for rows of any size and alignment (streamed). See docs/kernels/layer_norm.md.
#pragma once

#include "cuda_kernels/row_norm.cuh"
#include "cuda_kernels/row_norm_forward_ring.cuh"
#include "cuda_kernels/row_norm_moments.cuh"

#include <cstddef>
#include <type_traits>

namespace lamina::kernels::row_norm {

inline constexpr int kWideThreads = tuning::kWideHeld.block_threads;

/// Blocks of kMaxThreads that can share a multiprocessor, which bounds the registers of a thread:
/// as many as none of them spills.
template <class T, class W, bool kResidual, int kWidth, int kPacks>
constexpr int forward_blocks() {
  constexpr int kElements = kWidth * kPacks;
  if (kResidual && kWidth == 1) return 1;
  if (kElements <= 8) return kWidth > 1 && (kPacks == 1 || !kResidual) ? 3 : 2;
  if (kWidth == 8 && kPacks == 2) return 2;
  if (kWidth == 8 && kPacks == 3) return !kResidual ? 2 : 1;
  if (kWidth == 8) return !kResidual && std::is_same_v<W, __nv_bfloat16> ? 2 : 1;
  return kElements <= 16 && (!kResidual || sizeof(T) == 4) ? 2 : 1;
}

/// Starts to bring into the cache what a later block reads: blocks have too few bytes on their way
/// while they add up and write.
template <class X, class S, bool kResidual>
__device__ __forceinline__ void prefetch_row_ahead(const LayerNorm& args,
                                                   const ForwardScalars& scalars, unsigned row) {
  const unsigned ahead = row + scalars.rows_ahead;
  if (scalars.rows_ahead == 0 || ahead >= args.x.rows) return;
  const auto cols = static_cast<unsigned>(args.x.cols);
  prefetch(row_of<const X>(args.x, ahead), cols * sizeof(X));
  if constexpr (kResidual) prefetch(row_of<const S>(args.residual, ahead), cols * sizeof(S));
}

/// Found by measuring: 3 MB of operands is about what the blocks that run hold, and for rows below
/// 6 KB the instruction costs more than it brings. Blocks that read a row again in each pass are
/// ahead of that already where there is a residual.
inline unsigned rows_ahead(const RowPolicy& policy, const RowProblem& problem) {
  constexpr std::int64_t kAhead = 3'000'000, kLeast = 6 << 10, kMost = 1 << 20;
  const std::int64_t bytes =
      problem.cols * (problem.stream_bytes + (problem.has_residual ? problem.element_bytes : 0));
  const bool is_far = policy.variant == RowVariant::streamed && problem.has_residual;
  if (!problem.has_vectors || is_far || bytes < kLeast || bytes > kMost) return 0;
  return static_cast<unsigned>(kAhead / bytes);
}

/// blockDim.y rows per block (one if it takes more than a warp each). One pass over the elements,
/// around a guess of the mean; a second one, around the mean that the first found, for rows whose
/// guess was bad.
template <class T, class S, class W, Norm kNorm, bool kResidual, int kWidth, int kPacks,
          bool kWide = false>
__global__ void __launch_bounds__(kWide ? kWideThreads : kMaxThreads,
                                  kWide ? 1 : forward_blocks<T, W, kResidual, kWidth, kPacks>())
    forward(const LayerNorm args, const DropMask mask, const ForwardScalars scalars) {
  using X = std::conditional_t<kResidual, T, S>;
  using device::Keep;
  __shared__ typename RowSum<RowReach::block>::Scratch scratch;
  RowSum<RowReach::block> row_sum(scratch);
  RowThreads threads = RowThreads::of_block<RowReach::block>();
  if constexpr (kWide) threads.count = kWideThreads;  // known offsets take no registers
  prefetch_parameters<W, kWidth>(args.weight, args.bias);
  wait_for_previous_kernel();
  start_next_kernel();

  const auto rows = static_cast<unsigned>(args.x.rows);
  const unsigned row =
      kWide ? blockIdx.x : static_cast<unsigned>(threads.group) * blockDim.y + threadIdx.y;
  if (threads.index == 0) prefetch_row_ahead<X, S, kResidual>(args, scalars, row);
  const int cols = row < rows ? static_cast<int>(args.x.cols) : 0;  // barriers: no exit
  const std::int64_t own = threads.index * kWidth;                  // column of the first pack
  const int pitch = threads.count * kWidth;                         // columns to the next
  const X* const x = row_of<const X>(args.x, row) + own;
  const S* const residual = row_of<const S>(args.residual, row) + own;
  constexpr bool kGuessesFirst = !kResidual && kGuessesFromFirstPack<kWidth, kPacks>;
  float center = 0.0F;
  if constexpr (kGuessesFirst) {
    center = guess_mean<kNorm, T, S, kResidual, kWidth>(args, mask, row, cols > 0);
  }
  Pack<X, kWidth> loaded[kPacks];
  Pack<S, kWidth> added[kResidual ? kPacks : 1];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const bool is_in_row = threads.column<kWidth>(p) < cols;
    loaded[p] = device::load_pack_if<kWidth, Keep::in_order>(x + p * pitch, is_in_row);
    if constexpr (kResidual) {
      added[p] = device::load_pack_if<kWidth, Keep::in_order>(residual + p * pitch, is_in_row);
    }
  }

  float held[kPacks][kWidth];  // then x - center; zeros beyond the row
  if constexpr (kResidual) {
    // While the loads are on their way.
    const unsigned kept = kept_elements<kWidth, kPacks>(mask, row * args.x.cols + own, pitch);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const auto sum = add_residual(loaded[p], added[p], mask, kept >> (p * kWidth));
      const bool is_in_row = threads.column<kWidth>(p) < cols;
      device::store_pack_if(row_of<S>(args.sum, row) + own + p * pitch, sum, is_in_row);
      device::to_floats(sum, held[p]);
    }
  } else {
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
      device::to_floats(loaded[p], held[p]);
  }
  if constexpr (kNorm == Norm::layer && !kGuessesFirst) {
    center = guess_mean(row_sum, held, pitch, cols);
  }
  float sums[2] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    add_moments<kNorm>(held[p], threads.column<kWidth>(p) < cols ? center : 0.0F, sums);
  }
  row_sum.reduce(sums);
  Moments moments(center, sums, scalars.inverse);

  if (kNorm == Norm::layer && row_sum.any(moments.is_inexact())) {
    const float mean = moments.is_inexact() ? moments.mean() : center;
    const S* const source = row_of<const S>(kResidual ? args.sum : args.x, row) + own;
    sums[0] = sums[1] = 0.0F;
#pragma unroll 1
    for (int p = 0; p < kPacks; ++p) {
      if (threads.column<kWidth>(p) >= cols) continue;
      float values[kWidth];
      device::to_floats(device::load_pack<kWidth>(source + p * pitch), values);
      add_moments<kNorm>(values, mean, sums);
    }
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const bool is_in_row = threads.column<kWidth>(p) < cols;
      const auto again =
          device::load_pack_if<kWidth, Keep::in_order>(source + p * pitch, is_in_row);
      device::to_floats(again, held[p]);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        held[p][i] -= mean;
    }
    row_sum.reduce(sums);
    moments = Moments(mean, sums, scalars.inverse);
  }

  const float rstd = moments.rstd(scalars.eps);
  const float shift = -moments.offset * rstd;
  if (threads.index == 0 && cols > 0) write_moments(args, row, moments, rstd);
  T* const y = row_of<T>(args.y, row) + own;
  using Affine = Parameters<W, kWidth, kWide ? Keep::in_order : Keep::cached>;
  constexpr int kChunk = kPacks * kWidth >= 32 ? 1 : 2;  // parameters on their way at a time
#pragma unroll
  for (int begin = 0; begin < kPacks; begin += kChunk) {
    Affine weights[kChunk];
    Affine biases[kChunk];
#pragma unroll
    for (int p = 0; p < kChunk; ++p) {
      const int col = threads.column<kWidth>(begin + p);
      weights[p] = Affine(args.weight, col, col < cols, kOnes<W>);
      biases[p] = Affine(args.bias, col, col < cols, 0);
    }
#pragma unroll
    for (int p = begin; p < std::min(begin + kChunk, kPacks); ++p) {
      normalise(held[p], rstd, shift, weights[p - begin], biases[p - begin]);
      device::store_pack_if(y + p * pitch, device::from_floats<T>(held[p]),
                            threads.column<kWidth>(p) < cols);
    }
  }
}

/// A row per block, read again in each pass (after the first pass: the sum).
template <class T, class S, class W, Norm kNorm, bool kResidual, int kWidth>
__global__ void __launch_bounds__(kMaxThreads, 2)
    forward_streamed(const LayerNorm args, const DropMask mask, const ForwardScalars scalars) {
  using X = std::conditional_t<kResidual, T, S>;
  __shared__ typename RowSum<RowReach::block>::Scratch scratch;
  RowSum<RowReach::block> row_sum(scratch);
  prefetch_parameters<W, kWidth>(args.weight, args.bias);
  wait_for_previous_kernel();
  start_next_kernel();

  const std::int64_t row = blockIdx.x;
  if (threadIdx.x == 0) prefetch_row_ahead<X, S, kResidual>(args, scalars, blockIdx.x);
  const auto cols = static_cast<int>(args.x.cols);
  const int begin = static_cast<int>(threadIdx.x) * kWidth;
  const int step = static_cast<int>(blockDim.x) * kWidth;
  const S* const guess = row_of<const S>(kResidual ? args.residual : args.x, row);
  const float center = guess_mean<kNorm, T, S, kResidual, kWidth>(args, mask, row, true);
  float sums[2] = {};
  if constexpr (kResidual) row_sum.synchronise();  // sum may be written over residual
  for (int col = begin; col < cols; col += step) {
    float values[kWidth];
    const auto x = device::load_pack<kWidth>(row_of<const X>(args.x, row) + col);
    if constexpr (kResidual) {
      const unsigned kept = kept_elements<kWidth>(mask, row * args.x.cols + col);
      const auto sum = add_residual(x, device::load_pack<kWidth>(guess + col), mask, kept);
      device::store_pack(row_of<S>(args.sum, row) + col, sum);
      device::to_floats(sum, values);
    } else {
      device::to_floats(x, values);
    }
    add_moments<kNorm>(values, center, sums);
  }
  row_sum.reduce(sums);
  Moments moments(center, sums, scalars.inverse);
  const S* const source = row_of<const S>(kResidual ? args.sum : args.x, row);
  if (kNorm == Norm::layer && moments.is_inexact()) {  // alike in all threads
    const float mean = moments.mean();
    sums[0] = sums[1] = 0.0F;
    for (int col = begin; col < cols; col += step) {
      float values[kWidth];
      device::to_floats(device::load_pack<kWidth>(source + col), values);
      add_moments<kNorm>(values, mean, sums);
    }
    row_sum.reduce(sums);
    moments = Moments(mean, sums, scalars.inverse);
  }
  const float rstd = moments.rstd(scalars.eps);
  const float shift = -moments.offset * rstd;
  if (threadIdx.x == 0) write_moments(args, row, moments, rstd);
  T* const y = row_of<T>(args.y, row);
  for (int col = begin; col < cols; col += step) {
    float values[kWidth];
    device::to_floats(device::load_pack<kWidth>(source + col), values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      values[i] -= moments.center;
    normalise(values, rstd, shift, Parameters<W, kWidth>(args.weight, col, true, kOnes<W>),
              Parameters<W, kWidth>(args.bias, col, true, 0));
    device::store_pack(y + col, device::from_floats<T>(values));
  }
}

inline RowProblem forward_problem(const LayerNorm& args, CudaStream stream) {
  const DType stream_dtype = args.residual ? args.residual.dtype : args.x.dtype;
  RowProblem problem = row_problem(args.name(), args.x, args.y.dtype, stream_dtype, stream);
  problem.has_vectors =
      allows_vectors({args.x, args.residual, args.sum, args.y}, {args.weight, args.bias});
  problem.has_residual = static_cast<bool>(args.residual);
  return problem;
}

using ForwardKernel = void (*)(LayerNorm, DropMask, ForwardScalars);

/// The kernel of a legal policy.
template <class T, class S, class W, Norm kNorm, bool kResidual>
ForwardKernel forward_kernel(const RowPolicy& policy, bool has_vectors) {
  constexpr int kVector = kPackWidth<T, S>;
  const auto with_elements = [&]<int kWidth, int... kElements>() {
    ForwardKernel found = nullptr;
    const auto try_one = [&]<int kTried>() {
      if constexpr (kTried % kWidth == 0) {
        if (policy.packs * kWidth == kTried) {
          found = forward<T, S, W, kNorm, kResidual, kWidth, kTried / kWidth>;
        }
      }
    };
    (try_one.template operator()<kElements>(), ...);
    return found;
  };
  if (!has_vectors) {
    return policy.variant == RowVariant::held ? with_elements.template operator()<1, 8>()
                                              : forward_streamed<T, S, W, kNorm, kResidual, 1>;
  }
  switch (policy.variant) {
    case RowVariant::held:
      if (policy == tuning::kWideHeld) {
        return forward<T, S, W, kNorm, kResidual, kVector, tuning::kWideHeld.packs, true>;
      }
      return with_elements.template operator()<kVector, 4, 8, 12, 16, 24, 32>();
    case RowVariant::cluster:
      if constexpr (std::is_same_v<T, S>) {  // else there are too few registers
        if (policy.packs * kVector == 32) {
          return forward_cluster<T, S, W, kNorm, kResidual, kVector, 32 / kVector>;
        }
      }
      return forward_cluster<T, S, W, kNorm, kResidual, kVector, 16 / kVector>;
    case RowVariant::ring:
      return forward_ring<T, S, W, kNorm, kResidual, kVector>;
    default:
      return forward_streamed<T, S, W, kNorm, kResidual, kVector>;
  }
}

struct ForwardPlan {
  ForwardKernel kernel;
  LaunchShape shape;
};

/// Defined for each norm in a file of its own.
template <Norm kNorm>
ForwardPlan plan_forward(const RowPolicy& policy, const LayerNorm& args,
                         const RowProblem& problem) {
  const std::string_view op = args.name();
  ForwardPlan plan{};
  const DType stream_dtype = args.residual ? args.residual.dtype : args.x.dtype;
  LAMINA_CHECK(!args.weight || !args.bias || args.weight.dtype == args.bias.dtype, op, ": bias is ",
               args.bias.dtype, ", expected ", args.weight.dtype, " (as weight)");
  const Flat& parameter = args.weight ? args.weight : args.bias;
  dispatch_types(op, args.y.dtype, stream_dtype, parameter, [&]<class T, class S, class W>() {
    dispatch_bool(problem.has_residual, [&]<bool kResidual>() {
      plan.kernel = forward_kernel<T, S, W, kNorm, kResidual>(policy, problem.has_vectors);
    });
  });
  check_policy(plan.kernel != nullptr && is_legal_forward(policy, problem), policy, problem, op);
  const int threads = policy.threads_per_row(problem);
  const int rows = forward_rows_per_block(policy, problem);
  const std::int64_t groups = (args.x.rows + rows - 1) / rows;
  const std::int64_t blocks =
      policy.blocks_per_sm == 0
          ? groups
          : std::min<std::int64_t>(groups,
                                   problem.groups_at_once(policy.cluster) * policy.blocks_per_sm);
  plan.shape = {.grid = dim3(static_cast<unsigned>(blocks * policy.cluster)),
                .block = dim3(static_cast<unsigned>(threads), static_cast<unsigned>(rows)),
                .shared_bytes = static_cast<std::size_t>(forward_shared_bytes(policy, problem)),
                .cluster = policy.variant == RowVariant::cluster ? policy.cluster : 0};
  return plan;
}

}  // namespace lamina::kernels::row_norm
