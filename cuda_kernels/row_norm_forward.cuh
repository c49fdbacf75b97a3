// SPDX-License-Identifier: MIT
// Forward pass of LayerNorm and RMSNorm on CUDA. One template holds the row in registers (variants
// held and cluster), one in shared memory (ring), and one reads it again in each pass, for rows of
// any size and alignment (streamed). The moments are sums of x - center and of its square, where
// center is near the mean; rows where it was not have a second pass. See
// docs/kernels/layer_norm.md.
#pragma once

#include "cuda_kernels/row_norm.cuh"

#include <cstddef>
#include <type_traits>

namespace lamina::kernels::row_norm {

/// Scalars that all threads share, converted once on the host.
struct ForwardScalars {
  float inverse;  // 1 / cols
  float eps;
  int stages;  // of the ring
};

/// What is known of a row after a pass: sums of x - center and of its square.
struct Moments {
  float center;
  float offset = 0.0F;    // mean - center
  float variance = 0.0F;  // mean square for RMSNorm

  __device__ __forceinline__ void set(const float (&sums)[2], float inverse) {
    offset = sums[0] * inverse;
    variance = (sums[1] - sums[0] * offset) * inverse;
    if (variance < 0.0F) variance = 0.0F;  // constant rows; a NaN stays
  }

  /// True when the center was so far from the mean that the variance has lost digits: its rounding
  /// error is 1 + offset^2 / variance times that of a sum around the mean.
  __device__ __forceinline__ bool is_inexact() const { return offset * offset > 2.0F * variance; }

  __device__ __forceinline__ float rstd(float eps) const { return rsqrtf(variance + eps); }
};

/// A first guess at the mean of a row: the mean of its first elements, so that neither a common
/// offset nor a constant row costs digits.
template <Norm kNorm, class S, int kWidth>
__device__ __forceinline__ float first_center(const Pack<S, kWidth>& first) {
  if constexpr (kNorm == Norm::rms) return 0.0F;
  float values[kWidth];
  device::to_floats(first, values);
  return pairwise_sum(values) * (1.0F / kWidth);
}

/// The first elements of what is normalised, in every thread of the row.
template <class T, class S, bool kResidual, int kWidth>
__device__ __forceinline__ Pack<S, kWidth> first_pack(const LayerNorm& args, const DropMask& mask,
                                                      std::int64_t row, bool is_there) {
  using device::Keep;
  if constexpr (kResidual) {
    const auto x =
        device::load_pack_if<kWidth, Keep::streamed>(row_of<const T>(args.x, row), is_there);
    const auto residual =
        device::load_pack_if<kWidth, Keep::streamed>(row_of<const S>(args.residual, row), is_there);
    return add_residual(x, residual, mask, row * args.x.cols);
  } else {
    return device::load_pack_if<kWidth, Keep::streamed>(row_of<const S>(args.x, row), is_there);
  }
}

/// Adds a pack to the sums of x - center and of its square; `values` become x - center.
template <Norm kNorm, int kWidth>
__device__ __forceinline__ void add_moments(float (&values)[kWidth], float center,
                                            float (&sums)[2]) {
  float squares = 0.0F;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if constexpr (kNorm == Norm::layer) values[i] -= center;
    squares = fmaf(values[i], values[i], squares);
  }
  sums[1] += squares;
  if constexpr (kNorm == Norm::layer) sums[0] += pairwise_sum(values);
}

/// By the first thread of a row.
__device__ __forceinline__ void write_moments(const LayerNorm& args, std::int64_t row,
                                              const Moments& moments, float rstd) {
  if (args.mean.data != nullptr) {
    static_cast<float*>(args.mean.data)[row] = moments.center + moments.offset;
  }
  if (args.rstd.data != nullptr) static_cast<float*>(args.rstd.data)[row] = rstd;
}

/// (x - center) * rstd + shift, scaled and shifted; shift is (center - mean) * rstd.
template <class W, int kWidth>
__device__ __forceinline__ void normalise(float (&centred)[kWidth], float rstd, float shift,
                                          const Parameters<W, kWidth>& weights,
                                          const Parameters<W, kWidth>& biases) {
  float weight[kWidth];
  float bias[kWidth];
  weights.get(weight);
  biases.get(bias);
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    centred[i] = fmaf(fmaf(centred[i], rstd, shift), weight[i], bias[i]);
}

/// Blocks of kMaxThreads that can share a multiprocessor, which bounds the registers of a thread:
/// as many as none of them spills.
template <class T, class W, bool kResidual, int kWidth, int kPacks, RowReach kReach>
constexpr int forward_blocks() {
  constexpr int kElements = kWidth * kPacks;
  constexpr bool kIsPlain = !kResidual && kReach == RowReach::block;
  if (kResidual && kWidth == 1) return 1;
  if (kElements <= 8) return kWidth > 1 && (kPacks == 1 || kIsPlain) ? 3 : 2;
  if (kWidth == 8 && kPacks == 2) return 2;
  if (kWidth == 8 && kPacks == 3) return kIsPlain ? 2 : 1;
  if (kWidth == 8) return kIsPlain && std::is_same_v<W, __nv_bfloat16> ? 2 : 1;
  return kElements <= 16 && kReach == RowReach::block && (kIsPlain || sizeof(T) == 4) ? 2 : 1;
}

/// blockDim.y rows per block (one if it takes more than a warp each), or one per cluster. One pass
/// over the elements, around a guess of the mean; a second one, around the mean that the first
/// found, for rows whose guess was bad.
template <class T, class S, class W, Norm kNorm, bool kResidual, int kWidth, int kPacks,
          RowReach kReach>
__global__ void __launch_bounds__(kMaxThreads,
                                  forward_blocks<T, W, kResidual, kWidth, kPacks, kReach>())
    forward(const LayerNorm args, const DropMask mask, const ForwardScalars scalars) {
  using X = std::conditional_t<kResidual, T, S>;
  using device::Keep;
  __shared__ typename RowSum<kReach>::Scratch scratch;
  RowSum<kReach> row_sum(scratch);
  const RowThreads threads = RowThreads::of_block<kReach>();
  row_sum.synchronise();
  wait_for_previous_kernel();
  start_next_kernel();

  const auto rows = static_cast<unsigned>(args.x.rows);
  const unsigned row = static_cast<unsigned>(threads.group) * blockDim.y + threadIdx.y;
  const int cols = row < rows ? static_cast<int>(args.x.cols) : 0;  // barriers: no exit
  const std::int64_t own = threads.index * kWidth;                  // column of the first pack
  const int pitch = threads.count * kWidth;                         // columns to the next
  const S* const guess = row_of<const S>(kResidual ? args.residual : args.x, row);
  const X* const x = row_of<const X>(args.x, row) + own;
  const auto first = first_pack<T, S, kResidual, kWidth>(args, mask, row, cols > 0);
  Pack<X, kWidth> loaded[kPacks];
  Pack<S, kWidth> added[kResidual ? kPacks : 1];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const bool is_in_row = threads.column<kWidth>(p) < cols;
    loaded[p] = device::load_pack_if<kWidth, Keep::streamed>(x + p * pitch, is_in_row);
    if constexpr (kResidual) {
      added[p] = device::load_pack_if<kWidth, Keep::streamed>(guess + own + p * pitch, is_in_row);
    }
  }

  if constexpr (kResidual) {  // sum may be written over residual, whose first elements all read
    if (args.sum.data == args.residual.data) row_sum.synchronise();
  }
  Moments moments{.center = first_center<kNorm>(first)};
  float held[kPacks][kWidth];  // x - center; zeros beyond the row
  float sums[2] = {};
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int col = threads.column<kWidth>(p);
    if constexpr (kResidual) {
      const auto sum = add_residual(loaded[p], added[p], mask, row * args.x.cols + col);
      device::store_pack_if(row_of<S>(args.sum, row) + own + p * pitch, sum, col < cols);
      device::to_floats(sum, held[p]);
    } else {
      device::to_floats(loaded[p], held[p]);
    }
    add_moments<kNorm>(held[p], col < cols ? moments.center : 0.0F, sums);
  }
  row_sum.reduce(sums);
  moments.set(sums, scalars.inverse);

  if (kNorm == Norm::layer && row_sum.any(moments.is_inexact())) {
    if (moments.is_inexact()) moments.center += moments.offset;
    const S* const source = row_of<const S>(kResidual ? args.sum : args.x, row) + own;
    sums[0] = sums[1] = 0.0F;
#pragma unroll 1
    for (int p = 0; p < kPacks; ++p) {
      if (threads.column<kWidth>(p) >= cols) continue;
      float values[kWidth];
      device::to_floats(device::load_pack<kWidth>(source + p * pitch), values);
      add_moments<kNorm>(values, moments.center, sums);
    }
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const bool is_in_row = threads.column<kWidth>(p) < cols;
      const auto again =
          device::load_pack_if<kWidth, Keep::streamed>(source + p * pitch, is_in_row);
      device::to_floats(again, held[p]);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        held[p][i] -= moments.center;
    }
    row_sum.reduce(sums);
    moments.set(sums, scalars.inverse);
  }

  const float rstd = moments.rstd(scalars.eps);
  const float shift = -moments.offset * rstd;
  if (threads.index == 0 && cols > 0) write_moments(args, row, moments, rstd);
  T* const y = row_of<T>(args.y, row) + own;
  constexpr int kChunk = kPacks * kWidth >= 32 ? 1 : 2;  // parameters on their way at a time
#pragma unroll
  for (int begin = 0; begin < kPacks; begin += kChunk) {
    Parameters<W, kWidth> weights[kChunk];
    Parameters<W, kWidth> biases[kChunk];
#pragma unroll
    for (int p = 0; p < kChunk; ++p) {
      const int col = threads.column<kWidth>(begin + p);
      weights[p] = Parameters<W, kWidth>(args.weight, col, col < cols, kOnes<W>);
      biases[p] = Parameters<W, kWidth>(args.bias, col, col < cols, 0);
    }
#pragma unroll
    for (int p = begin; p < std::min(begin + kChunk, kPacks); ++p) {
      normalise(held[p], rstd, shift, weights[p - begin], biases[p - begin]);
      device::store_pack_if(y + p * pitch, device::from_floats<T>(held[p]),
                            threads.column<kWidth>(p) < cols);
    }
  }
}

/// A row per block and round, in shared memory: scalars.stages rows are there or on their way
/// there, so that the reads of the next rows go on while one is worked on. A thread reads only what
/// it copied there itself.
template <class T, class S, class W, Norm kNorm, bool kResidual, int kWidth>
__global__ void __launch_bounds__(kMaxThreads, 2)
    forward_ring(const LayerNorm args, const DropMask mask, const ForwardScalars scalars) {
  __shared__ typename RowSum<RowReach::block>::Scratch scratch;
  extern __shared__ __align__(16) std::byte ring[];
  RowSum<RowReach::block> row_sum(scratch);
  row_sum.synchronise();
  wait_for_previous_kernel();
  start_next_kernel();

  const auto rows = static_cast<unsigned>(args.x.rows);
  const auto cols = static_cast<int>(args.x.cols);
  const int begin = static_cast<int>(threadIdx.x) * kWidth;
  const int step = static_cast<int>(blockDim.x) * kWidth;
  const int padded = (cols + step - 1) / step * step;  // elements of a row in shared memory
  const int stage_bytes =
      padded * static_cast<int>(sizeof(S) + (kResidual ? sizeof(T) : std::size_t{0}));
  const int ring_end = scalars.stages * stage_bytes;
  const auto fetch = [&](std::int64_t row, int stage) {
    if (row < rows) {
      S* const stream = reinterpret_cast<S*>(ring + stage);
      T* const branch = reinterpret_cast<T*>(stream + padded);
      const S* const from = row_of<const S>(kResidual ? args.residual : args.x, row);
      const T* const x = row_of<const T>(args.x, row);
      for (int col = begin; col < cols; col += step) {
        copy_async(reinterpret_cast<Pack<S, kWidth>*>(stream + col),
                   reinterpret_cast<const Pack<S, kWidth>*>(from + col));
        if constexpr (kResidual) {
          copy_async(reinterpret_cast<Pack<T, kWidth>*>(branch + col),
                     reinterpret_cast<const Pack<T, kWidth>*>(x + col));
        }
      }
    }
    end_copies();
  };
  const auto guess_of = [&](std::int64_t row) {
    return first_pack<T, S, kResidual, kWidth>(args, mask, row, row < rows);
  };
  std::int64_t row = blockIdx.x;
  for (int stage = 0; stage < ring_end; stage += stage_bytes)
    fetch(row + std::int64_t{stage / stage_bytes} * gridDim.x, stage);
  auto guess = guess_of(row);
  if constexpr (kResidual) row_sum.synchronise();  // sum may be written over residual

  for (int stage = 0; row < rows; row += gridDim.x) {
    S* const stream = reinterpret_cast<S*>(ring + stage);
    const T* const branch = reinterpret_cast<const T*>(stream + padded);
    Moments moments{.center = first_center<kNorm>(guess)};
    guess = guess_of(row + gridDim.x);
    wait_for_copies(scalars.stages - 1);
    float sums[2] = {};
    for (int col = begin; col < cols; col += step) {
      auto pack = device::load_pack<kWidth>(stream + col);
      if constexpr (kResidual) {
        const auto x = device::load_pack<kWidth>(branch + col);
        pack = add_residual(x, pack, mask, row * args.x.cols + col);
        device::store_pack(row_of<S>(args.sum, row) + col, pack);
        device::store_pack(stream + col, pack);
      }
      float values[kWidth];
      device::to_floats(pack, values);
      add_moments<kNorm>(values, moments.center, sums);
    }
    row_sum.reduce(sums);
    moments.set(sums, scalars.inverse);
    if (kNorm == Norm::layer && moments.is_inexact()) {  // alike in all threads
      moments.center += moments.offset;
      sums[0] = sums[1] = 0.0F;
      for (int col = begin; col < cols; col += step) {
        float values[kWidth];
        device::to_floats(device::load_pack<kWidth>(stream + col), values);
        add_moments<kNorm>(values, moments.center, sums);
      }
      row_sum.reduce(sums);
      moments.set(sums, scalars.inverse);
    }
    const float rstd = moments.rstd(scalars.eps);
    const float shift = -moments.offset * rstd;
    if (threadIdx.x == 0) write_moments(args, row, moments, rstd);
    T* const y = row_of<T>(args.y, row);
#pragma unroll 2
    for (int col = begin; col < cols; col += step) {
      const Parameters<W, kWidth> weights(args.weight, col, true, kOnes<W>);
      const Parameters<W, kWidth> biases(args.bias, col, true, 0);
      float values[kWidth];
      device::to_floats(device::load_pack<kWidth>(stream + col), values);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] -= moments.center;
      normalise(values, rstd, shift, weights, biases);
      device::store_pack(y + col, device::from_floats<T>(values));
    }
    fetch(row + std::int64_t{scalars.stages} * gridDim.x, stage);
    stage = stage + stage_bytes == ring_end ? 0 : stage + stage_bytes;
  }
}

/// A row per block, read again in each pass (after the first pass: the sum).
template <class T, class S, class W, Norm kNorm, bool kResidual, int kWidth>
__global__ void __launch_bounds__(kMaxThreads, 2)
    forward_streamed(const LayerNorm args, const DropMask mask, const ForwardScalars scalars) {
  using X = std::conditional_t<kResidual, T, S>;
  __shared__ typename RowSum<RowReach::block>::Scratch scratch;
  RowSum<RowReach::block> row_sum(scratch);
  row_sum.synchronise();
  wait_for_previous_kernel();
  start_next_kernel();

  const std::int64_t row = blockIdx.x;
  const auto cols = static_cast<int>(args.x.cols);
  const int begin = static_cast<int>(threadIdx.x) * kWidth;
  const int step = static_cast<int>(blockDim.x) * kWidth;
  const S* const guess = row_of<const S>(kResidual ? args.residual : args.x, row);
  Moments moments{
      .center = first_center<kNorm>(first_pack<T, S, kResidual, kWidth>(args, mask, row, true))};
  float sums[2] = {};
  if constexpr (kResidual) row_sum.synchronise();  // sum may be written over residual
  for (int col = begin; col < cols; col += step) {
    float values[kWidth];
    const auto x = device::load_pack<kWidth>(row_of<const X>(args.x, row) + col);
    if constexpr (kResidual) {
      const auto sum =
          add_residual(x, device::load_pack<kWidth>(guess + col), mask, row * args.x.cols + col);
      device::store_pack(row_of<S>(args.sum, row) + col, sum);
      device::to_floats(sum, values);
    } else {
      device::to_floats(x, values);
    }
    add_moments<kNorm>(values, moments.center, sums);
  }
  row_sum.reduce(sums);
  moments.set(sums, scalars.inverse);
  const S* const source = row_of<const S>(kResidual ? args.sum : args.x, row);
  if (kNorm == Norm::layer && moments.is_inexact()) {  // alike in all threads
    moments.center += moments.offset;
    sums[0] = sums[1] = 0.0F;
    for (int col = begin; col < cols; col += step) {
      float values[kWidth];
      device::to_floats(device::load_pack<kWidth>(source + col), values);
      add_moments<kNorm>(values, moments.center, sums);
    }
    row_sum.reduce(sums);
    moments.set(sums, scalars.inverse);
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

inline RowProblem forward_problem(const LayerNorm& args, std::string_view op, CudaStream stream) {
  const DType stream_dtype = args.residual ? args.residual.dtype : args.x.dtype;
  RowProblem problem = row_problem(op, args.x, args.y.dtype, stream_dtype, stream);
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
  const auto with_elements = [&]<int kWidth, RowReach kReach, int... kElements>() {
    ForwardKernel found = nullptr;
    const auto try_one = [&]<int kTried>() {
      if constexpr (kTried % kWidth == 0) {
        if (policy.packs * kWidth == kTried) {
          found = forward<T, S, W, kNorm, kResidual, kWidth, kTried / kWidth, kReach>;
        }
      }
    };
    (try_one.template operator()<kElements>(), ...);
    return found;
  };
  if (!has_vectors) {
    return policy.variant == RowVariant::held
               ? with_elements.template operator()<1, RowReach::block, 8>()
               : forward_streamed<T, S, W, kNorm, kResidual, 1>;
  }
  switch (policy.variant) {
    case RowVariant::held:
      return with_elements.template operator()<kVector, RowReach::block, 4, 8, 12, 16, 24, 32>();
    case RowVariant::cluster:
      if constexpr (kResidual) {
        return with_elements.template operator()<kVector, RowReach::cluster, 16>();
      } else {
        return with_elements.template operator()<kVector, RowReach::cluster, 16, 32>();
      }
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

template <Norm kNorm>
ForwardPlan plan_forward(const RowPolicy& policy, const LayerNorm& args, const RowProblem& problem,
                         std::string_view op) {
  ForwardPlan plan{};
  LAMINA_CHECK(kNorm == Norm::layer || args.x.dtype == args.y.dtype, op, ": x is ", args.x.dtype,
               " beside ", args.y.dtype, ", expected one dtype");
  const DType stream_dtype = args.residual ? args.residual.dtype : args.x.dtype;
  LAMINA_CHECK(!args.weight || !args.bias || args.weight.dtype == args.bias.dtype, op, ": bias is ",
               args.bias.dtype, ", expected ", args.weight.dtype, " (as weight)");
  const Flat& parameter = args.weight ? args.weight : args.bias;
  dispatch_types(op, args.y.dtype, stream_dtype, parameter, [&]<class T, class S, class W>() {
    if constexpr (kNorm == Norm::layer) {
      dispatch_bool(problem.has_residual, [&]<bool kResidual>() {
        plan.kernel = forward_kernel<T, S, W, kNorm, kResidual>(policy, problem.has_vectors);
      });
    } else if constexpr (std::is_same_v<T, S>) {
      plan.kernel = forward_kernel<T, S, W, kNorm, false>(policy, problem.has_vectors);
    }
  });
  check_policy(plan.kernel != nullptr && is_legal_forward(policy, problem), policy, problem, op);
  const int threads = policy.threads_per_row(problem);
  const int rows = forward_rows_per_block(policy, problem);
  const std::int64_t groups = (args.x.rows + rows - 1) / rows;
  const std::int64_t blocks =
      policy.blocks_per_sm == 0
          ? groups
          : std::min<std::int64_t>(groups,
                                   std::int64_t{problem.multiprocessors} * policy.blocks_per_sm);
  plan.shape = {.grid = dim3(static_cast<unsigned>(blocks * policy.cluster)),
                .block = dim3(static_cast<unsigned>(threads), static_cast<unsigned>(rows)),
                .shared_bytes = static_cast<std::size_t>(forward_shared_bytes(policy, problem)),
                .cluster = policy.cluster};
  return plan;
}

template <Norm kNorm>
void launch_forward(const RowPolicy& policy, const LayerNorm& args, const RowProblem& problem,
                    std::string_view op, CudaStream stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  const ForwardPlan plan = plan_forward<kNorm>(policy, args, problem, op);
  prepare_kernel(reinterpret_cast<const void*>(plan.kernel), plan.shape.shared_bytes, problem.sm);
  launch_kernel(plan.kernel, plan.shape, stream, args, DropMask(args.drop_p, args.key),
                {.inverse = 1.0F / static_cast<float>(args.x.cols),
                 .eps = static_cast<float>(args.eps),
                 .stages = policy.stages});
}

}  // namespace lamina::kernels::row_norm
