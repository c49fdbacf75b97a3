// SPDX-License-Identifier: MIT
// Backward pass of LayerNorm and RMSNorm on CUDA, in two kernels: a persistent grid that reads x
// and dy once, writes dx and keeps the sums over its rows on chip, one row of partial sums per
// block; and a second kernel that adds those up column by column. The grid and every order of
// addition depend only on the operands and the device, so results are bit-identical from run to
// run.
#pragma once

#include "cuda_kernels/row_norm.cuh"
#include "cuda_kernels/row_norm_backward_streamed.cuh"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <type_traits>

namespace lamina::kernels::row_norm {

/// What the kernels are given: without a dx that is skipped; and where dx is accumulated and
/// nothing else depends on this call's share of it, the dx that is there as dsum, which is the
/// same.
inline LayerNormBackward as_launched(const LayerNormBackward& args) {
  LayerNormBackward launched = args;
  if (launched.dx_write == GradWrite::skip) launched.dx = {};
  if (!launched.dx) launched.dx_write = GradWrite::overwrite;
  if (launched.dx_write == GradWrite::accumulate && !args.dsum && !args.dx_drop &&
      !args.column_sum) {
    launched.dsum = launched.dx;
    launched.dx_write = GradWrite::overwrite;
  }
  return launched;
}

/// Neighbouring threads of a row swap halves of their packs, so that stores of a half fill 32
/// bytes: the lower one then has the first halves of both, the upper one the second.
__device__ __forceinline__ void swap_halves(float (&values)[8]) {
  const bool is_upper = threadIdx.x % 2 == 1;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float& given = values[i];
    float& other = values[i + 4];
    const float got = __shfl_xor_sync(device::kFullWarp, is_upper ? given : other, 1);
    if (is_upper) {
      given = got;
    } else {
      other = got;
    }
  }
}

/// Adds up the sums over rows of the block's groups and writes them to `partials`, [kSums][cols],
/// null where a sum is not wanted. Groups of less than a warp first add up what their warp has:
/// together they are a part, any other group is one alone. Then packs are dealt to the groups in
/// turn: a group adds the other parts' sums to its own, and leaves them theirs in `staging`,
/// [kSums, kPacks, parts, kPieces, threads].
template <int kSums, int kWidth, int kPacks>
__device__ __forceinline__ void write_partials(float (&sums)[kSums][kPacks][kWidth],
                                               float* const (&partials)[kSums], float* staging,
                                               const RowThreads& threads, int cols) {
  constexpr int kPiece = kWidth % 4 == 0 ? 4 : 1;
  constexpr int kPieces = kWidth / kPiece;
  using Piece = Pack<float, kPiece>;
  const auto threads_per_row = static_cast<int>(blockDim.x);
  const auto groups = static_cast<int>(blockDim.y);
  const auto group = static_cast<int>(threadIdx.y);
  const int shift = max(__clz(threads_per_row) - __clz(device::kWarpSize), 0);
  const int in_part = (1 << shift) - 1;  // bits of a group's number: a part has 2^shift
  const int parts = groups >> shift;
  const int part = group >> shift;
  const auto staged = [&](int pack, int of_part, int piece) {
    const int place = ((pack * parts + of_part) * kPieces + piece) * threads_per_row;
    return staging + (place + static_cast<int>(threadIdx.x)) * kPiece;
  };
  // Calls f(n, owner, sum, partial) for each pack, the n-th, and the group that it is dealt to.
  const auto each_pack = [&](auto&& f) {
    int owner = 0;
#pragma unroll
    for (int n = 0; n < kSums * kPacks; ++n) {
      float* const partial = partials[n / kPacks];
      if (partial != nullptr) f(n, owner, sums[n / kPacks][n % kPacks], partial);
      owner = owner + 1 == groups ? 0 : owner + 1;
    }
  };

  const bool swaps = kWidth == 8 && blockDim.x > 1;
  if constexpr (kWidth == 8) {
    if (swaps) {
#pragma unroll
      for (int n = 0; n < kSums * kPacks; ++n)
        swap_halves(sums[n / kPacks][n % kPacks]);
    }
  }
#pragma unroll 1
  for (int offset = threads_per_row; offset < device::kWarpSize; offset *= 2) {
#pragma unroll
    for (int n = 0; n < kSums * kPacks; ++n) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        float& sum = sums[n / kPacks][n % kPacks][i];
        sum += __shfl_xor_sync(device::kFullWarp, sum, offset);
      }
    }
  }
  if (parts > 1) {
    each_pack([&](int n, int owner, const float(&sum)[kWidth], float*) {
      const bool has_owner = owner >> shift == part;
      if (has_owner || (n & in_part) != (group & in_part)) return;  // one group speaks for its part
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        Piece values;
#pragma unroll
        for (int i = 0; i < kPiece; ++i)
          values[i] = sum[piece * kPiece + i];
        device::store_pack(staged(n, part, piece), values);
      }
    });
    __syncthreads();
  }
  each_pack([&](int n, int owner, const float(&sum)[kWidth], float* partial) {
    if (owner != group) return;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      Piece total;
#pragma unroll
      for (int i = 0; i < kPiece; ++i)
        total[i] = sum[piece * kPiece + i];
#pragma unroll 1
      for (int other = part + 1; other < part + parts; ++other) {
        const int from = other < parts ? other : other - parts;
        const auto added = device::load_pack<kPiece>(staged(n, from, piece));
#pragma unroll
        for (int i = 0; i < kPiece; ++i)
          total[i] += added[i];
      }
      const int half = static_cast<int>(threadIdx.x) % 2;  // that this thread has of both packs
      const int col = threads.column<kWidth>(n % kPacks) +
                      (swaps ? (piece - half) * kWidth + half * kPiece : piece * kPiece);
      if (col < cols) device::store_pack(partial + static_cast<unsigned>(col), total);
    }
  });
}

/// Rows are dealt to the groups of all blocks (clusters) in turn; a thread owns the same columns of
/// every row, so its sums over rows stay in registers. scalars.stages rows of each group are in
/// shared memory or on their way there. kTail: dx_drop or column_sum is wanted, or dx accumulated
/// beside a dsum.
template <class T, class S, class W, Norm kNorm, bool kTail, int kWidth, int kPacks,
          RowReach kReach>
__global__ void __launch_bounds__(tuning::max_backward_threads(kPacks* kWidth,
                                                               sizeof(S) > sizeof(T), kTail),
                                  1)
    backward(const LayerNormBackward args, const DropMask mask, const SumSlots slots,
             float* const partials, const BackwardScalars scalars) {
  constexpr bool kHasMean = kNorm == Norm::layer;
  constexpr int kThreads =
      tuning::max_backward_threads(kPacks * kWidth, sizeof(S) > sizeof(T), kTail);
  using StagedX = StagedPacks<S, kWidth, kPacks, kThreads>;
  using StagedDy = StagedPacks<T, kWidth, kPacks, kThreads>;
  __shared__ typename RowSum<kReach>::Scratch scratch;
  extern __shared__ __align__(128) std::byte ring[];  // a warp reads whole 128 B lines
  RowSum<kReach> row_sum(scratch);
  const RowThreads threads = RowThreads::of_block<kReach>();
  wait_for_previous_kernel();
  start_next_kernel();

  const auto rows = static_cast<unsigned>(args.x.rows);
  const auto cols = static_cast<int>(args.x.cols);
  const bool has_dsum = scalars.has_dsum != 0;
  const bool has_dx = scalars.has_dx != 0;
  const bool accumulates = kTail && args.dx_write == GradWrite::accumulate;

  // A stage of the ring: x, dy and dsum of the block's rows.
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  const int stage_bytes = StagedX::kBytes + StagedDy::kBytes + (has_dsum ? StagedX::kBytes : 0);
  const int ring_end = scalars.stages * stage_bytes;
  const auto staged_x = [&](int stage) { return StagedX(ring + stage, thread); };
  const auto staged_dy = [&](int stage) {
    return StagedDy(ring + stage + StagedX::kBytes, thread);
  };
  const auto staged_dsum = [&](int stage) {
    return StagedX(ring + stage + StagedX::kBytes + StagedDy::kBytes, thread);
  };

  // Rows and where they begin for this thread, advanced by a step per round.
  const unsigned step = static_cast<unsigned>(threads.groups) * blockDim.y;
  const unsigned first = static_cast<unsigned>(threads.group) * blockDim.y;  // of the whole block
  const unsigned first_row = first + threadIdx.y;
  const int own = threads.column<kWidth>(0);
  unsigned fetch_row = first_row;
  const S* fetch_x = row_of<const S>(args.x, first_row) + own;
  const T* fetch_dy = row_of<const T>(args.dy, first_row) + own;
  const S* fetch_dsum = row_of<const S>(args.dsum, first_row) + own;
  const auto fetch = [&](int stage) {
    if (fetch_row < rows) {
      staged_x(stage).fetch(fetch_x, threads, cols);
      staged_dy(stage).fetch(fetch_dy, threads, cols);
      if (has_dsum) staged_dsum(stage).fetch(fetch_dsum, threads, cols);
    }
    end_copies();
    fetch_row += step;
    fetch_x = advanced(fetch_x, scalars.x_step);
    fetch_dy = advanced(fetch_dy, scalars.dy_step);
    fetch_dsum = advanced(fetch_dsum, scalars.dsum_step);
  };
  // Elements beyond the row stay zeros, which no sum notices.
  for (int stage = 0; stage < ring_end; stage += stage_bytes) {
    staged_x(stage).clear_beyond(threads, cols);
    staged_dy(stage).clear_beyond(threads, cols);
  }
  for (int stage = 0; stage < ring_end; stage += stage_bytes)
    fetch(stage);

  float weights[kPacks][kWidth];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int col = threads.column<kWidth>(p);
    Parameters<W, kWidth>(args.weight, col, col < cols, kOnes<W>).get(weights[p]);
  }
  float sums_over_rows[2][kPacks][kWidth] = {};
  float(&dweight)[kPacks][kWidth] = sums_over_rows[0];
  float(&dbias)[kPacks][kWidth] = sums_over_rows[1];
  float column_sum[1][kPacks][kWidth] = {};

  struct Statistics {
    float mean, rstd;
  };

  const auto statistics_of = [&](unsigned row) -> Statistics {
    if (row >= rows) return {};
    return {kHasMean ? static_cast<const float*>(args.mean.data)[row] : 0.0F,
            static_cast<const float*>(args.rstd.data)[row]};
  };
  Statistics next = statistics_of(first_row);
  S* dx = row_of<S>(args.dx, first_row) + own;
  int stage = 0;

  // Clusters work a row behind: while the sums of a row are on their way through the cluster, they
  // finish the row before, from shared memory.
  constexpr bool kBehind = kReach == RowReach::cluster;
  // x - mean and g stay in registers for the second pass where there is room for them, else they
  // are made again.
  constexpr bool kHolds = !kBehind && ((kPacks * kWidth <= 8 && !(kTail && kWidth == 1)) ||
                                       (!kTail && (sizeof(S) == 2 || kPacks * kWidth <= 16)));
  float held_centred[kHolds ? kPacks : 1][kWidth];
  float held_g[kHolds ? kPacks : 1][kWidth];

  // Sums over the row, of g and of g * (x - mean), and of the rows.
  const auto first_pass = [&](const Statistics& of_row, bool is_there, float(&sums)[2]) {
    const StagedX x = staged_x(stage);
    const StagedDy dy = staged_dy(stage);
    sums[0] = sums[1] = 0.0F;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      float(&centred)[kWidth] = held_centred[kHolds ? p : 0];
      float(&g)[kWidth] = held_g[kHolds ? p : 0];
      float grad[kWidth];
      device::to_floats(x[p], centred);
      device::to_floats(dy[p], grad);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if constexpr (kHasMean) centred[i] -= of_row.mean;
        g[i] = grad[i] * weights[p][i];
        if constexpr (kHasMean) sums[0] += g[i];
        sums[1] = fmaf(g[i], centred[i], sums[1]);
        if (!is_there) continue;
        dweight[p][i] = fmaf(grad[i] * centred[i], of_row.rstd, dweight[p][i]);
        if constexpr (kHasMean) dbias[p][i] += grad[i];
      }
    }
  };

  // dx = rstd * g - rstd * mean(g) - (x - mean) * rstd^3 * mean(g * (x - mean)).
  const auto second_pass = [&](const Statistics& of_row, unsigned row, int from,
                               const float(&sums)[2]) {
    const StagedX x = staged_x(from);
    const StagedDy dy = staged_dy(from);
    const int end = row < rows ? cols : 0;
    const float rstd = of_row.rstd;
    const float constant = -rstd * (sums[0] * scalars.inverse);
    const float slope = -rstd * rstd * (rstd * (sums[1] * scalars.inverse));
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int col = threads.column<kWidth>(p);
      float(&centred)[kWidth] = held_centred[kHolds ? p : 0];
      float(&g)[kWidth] = held_g[kHolds ? p : 0];
      if constexpr (!kHolds) {
        device::to_floats(x[p], centred);
        device::to_floats(dy[p], g);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          if constexpr (kHasMean) centred[i] -= of_row.mean;
          g[i] *= weights[p][i];
        }
      }
      float values[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] = fmaf(g[i], rstd, fmaf(centred[i], slope, constant));
      if (has_dsum) {
        float dsum[kWidth];
        device::to_floats(staged_dsum(from)[p], dsum);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          values[i] += dsum[i];
      }
      const int offset = p * threads.count * kWidth;
      write_dx(dx + offset, has_dx && col < end, accumulates, values);
      if constexpr (kTail) {
        if (col >= end) continue;
        write_dx_drop<T>(args, mask, row, col, values);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          column_sum[0][p][i] += values[i];
      }
    }
    dx = advanced(dx, scalars.dx_step);
    fetch(from);
  };
  const auto stage_after = [&](int s) { return s + stage_bytes == ring_end ? 0 : s + stage_bytes; };

  float sums[2];
  if constexpr (kBehind) {
    Statistics before{};
    int stage_before = 0;
    for (unsigned row = first; row < rows + step; row += step) {
      const Statistics current = next;
      next = statistics_of(row + step);
      float sums_before[2];
      if (row < rows) {
        wait_for_stage(scalars.stages - 1);
        first_pass(current, true, sums);
      }
      if (row != first) row_sum.end(sums_before);
      if (row < rows) row_sum.begin(sums);
      if (row != first) second_pass(before, row - step, stage_before, sums_before);
      before = current;
      stage_before = stage;
      stage = stage_after(stage);
    }
  } else {
    for (unsigned begin = first; begin < rows; begin += step) {  // no early exit: barriers
      const unsigned row = begin + threadIdx.y;
      const Statistics current = next;
      next = statistics_of(row + step);
      wait_for_stage(scalars.stages);
      first_pass(current, row < rows, sums);
      row_sum.reduce(sums);
      second_pass(current, row, stage, sums);
      stage = stage_after(stage);
    }
  }

  // The ring becomes the staging of the groups' sums. It has two stages at least.
  static_assert(sizeof(sums_over_rows) <= 2 * kPacks * kWidth * (sizeof(S) + sizeof(T)));
  wait_for_all_copies();
  __syncthreads();
  auto* const staging = reinterpret_cast<float*>(ring);
  const auto partial = [&](int slot) {
    const std::int64_t row = std::int64_t{threads.group} * slots.count + slot;
    return slot < 0 ? nullptr : partials + row * cols;
  };
  write_partials(sums_over_rows, {partial(slots.dweight), partial(slots.dbias)}, staging, threads,
                 cols);
  if constexpr (kTail) {
    __syncthreads();
    write_partials(column_sum, {partial(slots.column_sum)}, staging, threads, cols);
  }
}

inline RowProblem backward_problem(const LayerNormBackward& asked, CudaStream stream) {
  const LayerNormBackward args = as_launched(asked);
  RowProblem problem = row_problem(args.name(), args.x, args.dy.dtype, args.x.dtype, stream);
  problem.has_vectors =
      allows_vectors({args.x, args.dy, args.dsum, args.dx, args.dx_drop}, {args.weight});
  problem.has_residual = static_cast<bool>(args.dsum);
  problem.has_tail = args.dx_drop || args.column_sum || args.dx_write == GradWrite::accumulate;
  return problem;
}

using BackwardKernel = void (*)(LayerNormBackward, DropMask, SumSlots, float*, BackwardScalars);

/// The first kernel of a legal policy.
template <class T, class S, class W, Norm kNorm, bool kTail>
BackwardKernel backward_kernel(const RowPolicy& policy, bool has_vectors) {
  constexpr int kVector = kPackWidth<T, S>;
  const auto with_width = [&]<int kWidth, RowReach kReach, int... kElements>() {
    BackwardKernel found = nullptr;
    ((policy.packs* kWidth == kElements
          ? found = backward<T, S, W, kNorm, kTail, kWidth, kElements / kWidth, kReach>
          : nullptr),
     ...);
    return found;
  };
  if (policy.variant == RowVariant::streamed) {
    return has_vectors ? backward_streamed<T, S, W, kNorm, kVector>
                       : backward_streamed<T, S, W, kNorm, 1>;
  }
  if (!has_vectors) return with_width.template operator()<1, RowReach::block, 8>();
  if constexpr (std::is_same_v<T, S>) {
    if (policy.variant == RowVariant::ring) {
      return with_width.template operator()<kVector, RowReach::block, 8, 16, 24>();
    }
    return with_width.template operator()<kVector, RowReach::cluster, 8, 16>();
  } else {
    if (policy.variant == RowVariant::ring) {
      return with_width.template operator()<kVector, RowReach::block, 8, 16>();
    }
    return with_width.template operator()<kVector, RowReach::cluster, 8>();
  }
}

/// Rows of partial sums: the persistent grid's blocks (clusters), as few as take the same number of
/// rounds over the rows.
inline std::int64_t partial_rows(const RowPolicy& policy, const RowProblem& problem) {
  const std::int64_t most =
      std::max(1, problem.groups_at_once(policy.cluster) * policy.blocks_per_sm);
  const int per_block = policy.rows_per_block(problem);
  const std::int64_t work = (problem.rows + per_block - 1) / per_block;
  const std::int64_t rounds = std::max<std::int64_t>(1, (work + most - 1) / most);
  return (work + rounds - 1) / rounds;
}

inline std::int64_t backward_workspace_bytes(const RowPolicy& policy, const LayerNormBackward& args,
                                             const RowProblem& problem) {
  return partial_rows(policy, problem) * SumSlots(args).count * args.x.cols *
         static_cast<std::int64_t>(sizeof(float));
}

struct BackwardPlan {
  BackwardKernel kernel;
  LaunchShape shape;
  BackwardScalars scalars;
};

/// Defined for each norm in a file of its own.
template <Norm kNorm>
BackwardPlan plan_backward(const RowPolicy& policy, const LayerNormBackward& args,
                           const RowProblem& problem) {
  const std::string_view op = args.name();
  BackwardPlan plan{};
  dispatch_types(op, args.dy.dtype, args.x.dtype, args.weight, [&]<class T, class S, class W>() {
    dispatch_bool(problem.has_tail, [&]<bool kTail>() {
      plan.kernel = backward_kernel<T, S, W, kNorm, kTail>(policy, problem.has_vectors);
    });
  });
  check_policy(plan.kernel != nullptr && is_legal_backward(policy, problem), policy, problem, op);
  const std::int64_t blocks = partial_rows(policy, problem) * policy.cluster;
  plan.shape = {.grid = dim3(static_cast<unsigned>(blocks)),
                .block = dim3(static_cast<unsigned>(policy.threads_per_row(problem)),
                              static_cast<unsigned>(policy.rows_per_block(problem))),
                .shared_bytes = static_cast<std::size_t>(backward_shared_bytes(policy, problem)),
                .cluster = policy.variant == RowVariant::cluster ? policy.cluster : 0};
  const std::int64_t step = partial_rows(policy, problem) * policy.rows_per_block(problem);
  const auto step_of = [&](const Rows& view) {
    return step * view.stride * static_cast<std::int64_t>(size_of(view.dtype));
  };
  plan.scalars = {.inverse = 1.0F / static_cast<float>(args.x.cols),
                  .stages = policy.stages,
                  .shared_floats = 0,
                  .has_dsum = static_cast<bool>(args.dsum),
                  .has_dx = static_cast<bool>(args.dx),
                  .x_step = step_of(args.x),
                  .dy_step = step_of(args.dy),
                  .dsum_step = step_of(args.dsum),
                  .dx_step = step_of(args.dx)};
  if (policy.variant == RowVariant::streamed) {
    const std::int64_t wanted = SumSlots(args).count * args.x.cols;
    const int offered = tuning::shared_limit(problem.sm) / static_cast<int>(sizeof(float));
    plan.scalars.shared_floats = wanted <= offered ? static_cast<int>(wanted) : 0;
    plan.shape.shared_bytes = static_cast<std::size_t>(plan.scalars.shared_floats) * sizeof(float);
  }
  return plan;
}

}  // namespace lamina::kernels::row_norm
