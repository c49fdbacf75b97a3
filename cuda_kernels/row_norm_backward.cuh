// SPDX-License-Identifier: MIT
// Backward pass of LayerNorm and RMSNorm on CUDA, in two kernels: a persistent grid that reads x
// and dy once, writes dx and keeps the sums over its rows on chip, one row of partial sums per
// block; and a second kernel that adds those up column by column. The grid and every order of
// addition depend only on the operands and the device, so results are bit-identical from run to
// run.
#pragma once

#include "cuda_kernels/row_norm.cuh"
#include "cuda_kernels/row_norm_partials.cuh"

#include <algorithm>
#include <cstddef>
#include <string_view>
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

/// Scalars of a launch. A step is the distance in elements from a row of a block to its next.
struct BackwardScalars {
  float inverse;      // 1 / cols
  int stages;         // of the ring
  int shared_floats;  // of the streamed variant
  std::int64_t x_step, dy_step, dsum_step, dx_step, dx_drop_step;
};

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

/// Writes a pack of dx if there is one. kTail: also of what dropout lets through of it if there is
/// a dx_drop; `handed_on` is what column_sum adds up; and dx may be accumulated. `first` is the
/// number of the first element, for the dropout mask.
template <bool kTail, class T, class S, int kWidth>
__device__ __forceinline__ void write_dx(S* dx, T* dx_drop, bool accumulates, const DropMask& mask,
                                         std::int64_t first, const float (&values)[kWidth],
                                         float (&handed_on)[kWidth]) {
  if (dx != nullptr) {
    if (kTail && accumulates) {
      float sum[kWidth];
      device::to_floats(device::load_pack<kWidth>(static_cast<const S*>(dx)), sum);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        sum[i] += values[i];
      device::store_pack(dx, device::from_floats<S>(sum));
    } else {
      device::store_pack(dx, device::from_floats<S>(values));
    }
  }
  if constexpr (kTail) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      handed_on[i] = values[i];
    if (dx_drop == nullptr) return;
    if (mask.threshold != 0) {
      float factors[kWidth];
      mask.factors(first, factors);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        handed_on[i] = factors[i] == 0.0F ? 0.0F : values[i] * factors[i];
    }
    device::store_pack(dx_drop, device::from_floats<T>(handed_on));
  }
}

/// Adds the groups' sums of one kind in the order of the groups and writes them as a partial row.
template <int kWidth, int kPacks>
__device__ __forceinline__ void write_partial(const float (&sums)[kPacks][kWidth],
                                              const RowThreads& threads, int cols, float* staging,
                                              float* partial) {
  const int groups = static_cast<int>(blockDim.y);
  float* const own = groups == 1 ? partial : staging + static_cast<int>(threadIdx.y) * cols;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int col = threads.column<kWidth>(p);
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
  const int thread = static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
  for (int col = thread; col < cols; col += static_cast<int>(blockDim.x * blockDim.y)) {
    float total = 0.0F;
    for (int group = 0; group < groups; ++group)
      total += staging[group * cols + col];
    partial[col] = total;
  }
  __syncthreads();
}

/// Rows are dealt to the groups of all blocks (clusters) in turn; a thread owns the same columns of
/// every row, so its sums over rows stay in registers. scalars.stages rows of each group are in
/// shared memory or on their way there. kTail: dx_drop or column_sum is wanted, or dx accumulated
/// beside a dsum.
template <class T, class S, class W, Norm kNorm, bool kTail, int kWidth, int kPacks,
          RowReach kReach>
__global__ void __launch_bounds__(tuning::max_backward_threads(kPacks* kWidth), 1)
    backward(const LayerNormBackward args, const DropMask mask, const SumSlots slots,
             float* const partials, const BackwardScalars scalars) {
  constexpr bool kHasMean = kNorm == Norm::layer;
  using StagedX = StagedPacks<S, kWidth, kPacks>;
  using StagedDy = StagedPacks<T, kWidth, kPacks>;
  __shared__ typename RowSum<kReach>::Scratch scratch;
  extern __shared__ __align__(16) std::byte ring[];
  RowSum<kReach> row_sum(scratch);
  const RowThreads threads = RowThreads::of_block<kReach>();
  row_sum.synchronise();
  wait_for_previous_kernel();
  start_next_kernel();

  const auto rows = static_cast<unsigned>(args.x.rows);
  const auto cols = static_cast<int>(args.x.cols);
  const bool has_dsum = args.dsum.data != nullptr;
  const bool accumulates = args.dx_write == GradWrite::accumulate;

  // A stage of the ring: x, dy and dsum of a row.
  const int stages = scalars.stages;
  const int x_bytes = StagedX::bytes(static_cast<int>(blockDim.x));
  const int dy_bytes = StagedDy::bytes(static_cast<int>(blockDim.x));
  const int stage_bytes = x_bytes + dy_bytes + (has_dsum ? x_bytes : 0);
  const int ring_begin = static_cast<int>(threadIdx.y) * stages * stage_bytes;
  const int ring_end = ring_begin + stages * stage_bytes;
  const auto staged_x = [&](int stage) { return StagedX(ring + stage); };
  const auto staged_dy = [&](int stage) { return StagedDy(ring + stage + x_bytes); };
  const auto staged_dsum = [&](int stage) { return StagedX(ring + stage + x_bytes + dy_bytes); };

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
    fetch_x += scalars.x_step;
    fetch_dy += scalars.dy_step;
    fetch_dsum += scalars.dsum_step;
  };
  // Elements beyond the row stay zeros, which no sum notices.
  for (int stage = ring_begin; stage < ring_end; stage += stage_bytes) {
    staged_x(stage).clear_beyond(threads, cols);
    staged_dy(stage).clear_beyond(threads, cols);
  }
  for (int stage = ring_begin; stage < ring_end; stage += stage_bytes)
    fetch(stage);

  float weights[kPacks][kWidth];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int col = threads.column<kWidth>(p);
    Parameters<W, kWidth>(args.weight, col, col < cols, kOnes<W>).get(weights[p]);
  }
  float dweight[kPacks][kWidth] = {};
  float dbias[kPacks][kWidth] = {};
  float column_sum[kPacks][kWidth] = {};

  struct Statistics {
    float mean, rstd;
  };

  const auto statistics_of = [&](unsigned row) -> Statistics {
    if (row >= rows) return {};
    return {kHasMean ? static_cast<const float*>(args.mean.data)[row] : 0.0F,
            static_cast<const float*>(args.rstd.data)[row]};
  };
  Statistics next = statistics_of(first_row);
  S* dx = args.dx.data == nullptr ? nullptr : row_of<S>(args.dx, first_row) + own;
  T* dx_drop = args.dx_drop.data == nullptr ? nullptr : row_of<T>(args.dx_drop, first_row) + own;
  int stage = ring_begin;

  for (unsigned begin = first; begin < rows; begin += step) {
    const unsigned row = begin + threadIdx.y;
    const int end = row < rows ? cols : 0;  // no early exit: barriers
    const Statistics current = next;
    next = statistics_of(row + step);
    wait_for_copies(stages - 1);

    // Pass one: sums over the row, and of the rows. x - mean and g stay in registers where there is
    // room for them, else they are made again from shared memory.
    constexpr bool kHolds =
        kPacks * kWidth <= 8 || (!kTail && (kReach == RowReach::block || sizeof(S) == 2));
    const StagedX x = staged_x(stage);
    const StagedDy dy = staged_dy(stage);
    float held_centred[kHolds ? kPacks : 1][kWidth];
    float held_g[kHolds ? kPacks : 1][kWidth];
    float sums[2] = {};  // of g, of g * (x - mean)
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      float(&centred)[kWidth] = held_centred[kHolds ? p : 0];
      float(&g)[kWidth] = held_g[kHolds ? p : 0];
      float grad[kWidth];
      device::to_floats(x[p], centred);
      device::to_floats(dy[p], grad);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if constexpr (kHasMean) centred[i] -= current.mean;
        g[i] = grad[i] * weights[p][i];
        if constexpr (kHasMean) sums[0] += g[i];
        sums[1] = fmaf(g[i], centred[i], sums[1]);
        if (end == 0) continue;
        dweight[p][i] = fmaf(grad[i] * centred[i], current.rstd, dweight[p][i]);
        if constexpr (kHasMean) dbias[p][i] += grad[i];
      }
    }
    row_sum.reduce(sums);

    // Pass two: dx = rstd * g - rstd * mean(g) - (x - mean) * rstd^3 * mean(g * (x - mean)).
    const float rstd = current.rstd;
    const float constant = -rstd * (sums[0] * scalars.inverse);
    const float slope = -rstd * rstd * (rstd * (sums[1] * scalars.inverse));
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int col = threads.column<kWidth>(p);
      if (col >= end) continue;
      float(&centred)[kWidth] = held_centred[kHolds ? p : 0];
      float(&g)[kWidth] = held_g[kHolds ? p : 0];
      if constexpr (!kHolds) {
        device::to_floats(x[p], centred);
        device::to_floats(dy[p], g);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          if constexpr (kHasMean) centred[i] -= current.mean;
          g[i] *= weights[p][i];
        }
      }
      float values[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] = fmaf(g[i], rstd, fmaf(centred[i], slope, constant));
      if (has_dsum) {
        float dsum[kWidth];
        device::to_floats(staged_dsum(stage)[p], dsum);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          values[i] += dsum[i];
      }
      float handed_on[kWidth];
      const int offset = col - own;
      write_dx<kTail>(dx == nullptr ? nullptr : dx + offset,
                      dx_drop == nullptr ? nullptr : dx_drop + offset, accumulates, mask,
                      row * args.x.cols + col, values, handed_on);
      if constexpr (kTail) {
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          column_sum[p][i] += handed_on[i];
      }
    }
    if (dx != nullptr) dx += scalars.dx_step;
    if (kTail && dx_drop != nullptr) dx_drop += scalars.dx_drop_step;
    fetch(stage);
    stage = stage + stage_bytes == ring_end ? ring_begin : stage + stage_bytes;
  }

  if (blockDim.y > 1) {  // the ring becomes the staging of the groups' sums
    wait_for_copies(0);
    __syncthreads();
  }
  float* const staging = reinterpret_cast<float*>(ring);
  float* const partial = partials + std::int64_t{threads.group} * slots.count * cols;
  if (slots.dweight >= 0) {
    write_partial(dweight, threads, cols, staging, partial + slots.dweight * cols);
  }
  if (slots.dbias >= 0) {
    write_partial(dbias, threads, cols, staging, partial + slots.dbias * cols);
  }
  if constexpr (kTail) {
    if (slots.column_sum >= 0) {
      write_partial(column_sum, threads, cols, staging, partial + slots.column_sum * cols);
    }
  }
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
  extern __shared__ __align__(16) std::byte ring[];
  float* const shared_sums = reinterpret_cast<float*>(ring);  // [slots.count, cols]
  RowSum<RowReach::block> row_sum(scratch);
  row_sum.synchronise();
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
      float handed_on[kWidth];
      T* const dx_drop =
          args.dx_drop.data == nullptr ? nullptr : row_of<T>(args.dx_drop, row) + col;
      S* const dx_to = args.dx.data == nullptr ? nullptr : row_of<S>(args.dx, row) + col;
      write_dx<true>(dx_to, dx_drop, accumulates, mask, row * args.x.cols + col, dx, handed_on);
      if (slots.dweight >= 0) add(slots.dweight, col, is_first, dweight);
      if (slots.dbias >= 0) add(slots.dbias, col, is_first, dbias);
      if constexpr (kHasMean) {
        if (slots.column_sum >= 0) add(slots.column_sum, col, is_first, handed_on);
      }
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

inline RowProblem backward_problem(const LayerNormBackward& asked, std::string_view op,
                                   CudaStream stream) {
  const LayerNormBackward args = as_launched(asked);
  RowProblem problem = row_problem(op, args.x, args.dy.dtype, args.x.dtype, stream);
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
      std::max(1, problem.multiprocessors * policy.blocks_per_sm / policy.cluster);
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

template <Norm kNorm>
BackwardPlan plan_backward(const RowPolicy& policy, const LayerNormBackward& args,
                           const RowProblem& problem, std::string_view op) {
  BackwardPlan plan{};
  LAMINA_CHECK(kNorm == Norm::layer || args.x.dtype == args.dy.dtype, op, ": x is ", args.x.dtype,
               " beside ", args.dy.dtype, ", expected one dtype");
  dispatch_types(op, args.dy.dtype, args.x.dtype, args.weight, [&]<class T, class S, class W>() {
    if constexpr (kNorm == Norm::layer) {
      dispatch_bool(problem.has_tail, [&]<bool kTail>() {
        plan.kernel = backward_kernel<T, S, W, kNorm, kTail>(policy, problem.has_vectors);
      });
    } else if constexpr (std::is_same_v<T, S>) {
      plan.kernel = backward_kernel<T, S, W, kNorm, false>(policy, problem.has_vectors);
    }
  });
  check_policy(plan.kernel != nullptr && is_legal_backward(policy, problem), policy, problem, op);
  const std::int64_t blocks = partial_rows(policy, problem) * policy.cluster;
  plan.shape = {.grid = dim3(static_cast<unsigned>(blocks)),
                .block = dim3(static_cast<unsigned>(policy.threads_per_row(problem)),
                              static_cast<unsigned>(policy.rows_per_block(problem))),
                .shared_bytes = static_cast<std::size_t>(backward_shared_bytes(policy, problem)),
                .cluster = policy.cluster};
  const std::int64_t step = partial_rows(policy, problem) * policy.rows_per_block(problem);
  plan.scalars = {.inverse = 1.0F / static_cast<float>(args.x.cols),
                  .stages = policy.stages,
                  .shared_floats = 0,
                  .x_step = step * args.x.stride,
                  .dy_step = step * args.dy.stride,
                  .dsum_step = step * args.dsum.stride,
                  .dx_step = step * args.dx.stride,
                  .dx_drop_step = step * args.dx_drop.stride};
  if (policy.variant == RowVariant::streamed) {
    const std::int64_t wanted = SumSlots(args).count * args.x.cols;
    const int offered = tuning::shared_limit(problem.sm) / static_cast<int>(sizeof(float));
    plan.scalars.shared_floats = wanted <= offered ? static_cast<int>(wanted) : 0;
    plan.shape.shared_bytes = static_cast<std::size_t>(plan.scalars.shared_floats) * sizeof(float);
  }
  return plan;
}

/// Both kernels. No rows: the sums are 0. No sums asked for: there is no second kernel.
template <Norm kNorm>
void launch_backward(const RowPolicy& policy, const LayerNormBackward& args,
                     const RowProblem& problem, std::string_view op, CudaStream stream) {
  if (args.x.cols == 0) return;
  const SumSlots slots(args);
  int rows_of_partials = 0;
  if (args.x.rows > 0) {
    const BackwardPlan plan = plan_backward<kNorm>(policy, as_launched(args), problem, op);
    const std::int64_t wanted = backward_workspace_bytes(policy, args, problem);
    LAMINA_CHECK(args.workspace.size >= wanted, op, ": workspace has ", args.workspace.size,
                 " bytes, expected ", wanted, " (rows of partial sums)");
    prepare_kernel(reinterpret_cast<const void*>(plan.kernel), plan.shape.shared_bytes, problem.sm);
    launch_kernel(plan.kernel, plan.shape, stream, as_launched(args),
                  DropMask(args.drop_p, args.key), slots, args.workspace.as<float>(), plan.scalars);
    rows_of_partials = static_cast<int>(partial_rows(policy, problem));
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
  launch_kernel(add_partials<kNorm>,
                {.grid = dim3(columns, static_cast<unsigned>(slots.count)),
                 .block = dim3(kSumColumns, kSumWarps)},
                stream, args.workspace.as<const float>(), rows_of_partials,
                static_cast<int>(args.x.cols), to);
}

}  // namespace lamina::kernels::row_norm
