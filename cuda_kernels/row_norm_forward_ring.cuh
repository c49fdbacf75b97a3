// SPDX-License-Identifier: MIT
// Forward pass of LayerNorm and RMSNorm on CUDA: the kernels with a persistent grid, whose next
// rows are on their way to shared memory while one is worked on. See docs/kernels/layer_norm.md.
#pragma once

#include "cuda_kernels/row_norm.cuh"
#include "cuda_kernels/row_norm_moments.cuh"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace lamina::kernels::row_norm {

/// A row per cluster and round (a cluster may be one block). A thread has the same columns of every
/// row, so their weight and bias are read once. scalars.stages rows are in shared memory or on
/// their way there. The cluster works a row behind: while the sums of a row are on their way
/// through it, the row before is finished, from shared memory. A thread reads only what it copied
/// there itself.
template <class T, class S, class W, Norm kNorm, bool kResidual, int kWidth, int kPacks>
__global__ void __launch_bounds__(kMaxThreads, 1)
    forward_cluster(const LayerNorm args, const DropMask mask, const ForwardScalars scalars) {
#if __CUDA_ARCH__ >= 900  // below there are no clusters
  using StagedX = StagedPacks<S, kWidth, kPacks, kMaxThreads>;
  using StagedBranch = StagedPacks<T, kWidth, kPacks, kMaxThreads>;
  __shared__ typename RowSum<RowReach::cluster>::Scratch scratch;
  extern __shared__ __align__(128) std::byte ring[];  // a warp reads whole 128 B lines
  RowSum<RowReach::cluster> row_sum(scratch);
  const RowThreads threads = RowThreads::of_block<RowReach::cluster>();
  prefetch_parameters<W, kWidth>(args.weight, args.bias);
  wait_for_previous_kernel();
  start_next_kernel();

  const auto rows = static_cast<unsigned>(args.x.rows);
  const auto cols = static_cast<int>(args.x.cols);
  const Rows& stream = kResidual ? args.residual : args.x;
  constexpr int kStageBytes = StagedX::kBytes + (kResidual ? StagedBranch::kBytes : 0);
  const int ring_end = scalars.stages * kStageBytes;
  const auto staged_x = [&](int stage) {
    return StagedX(ring + stage, static_cast<int>(threadIdx.x));
  };
  const auto staged_branch = [&](int stage) {
    return StagedBranch(ring + stage + StagedX::kBytes, static_cast<int>(threadIdx.x));
  };
  const auto step = static_cast<unsigned>(threads.groups);
  const auto first = static_cast<unsigned>(threads.group);
  const int own = threads.column<kWidth>(0);
  const auto fetch = [&](unsigned row, int stage) {
    if (row < rows) {
      staged_x(stage).fetch(row_of<const S>(stream, row) + own, threads, cols);
      if constexpr (kResidual) {
        staged_branch(stage).fetch(row_of<const T>(args.x, row) + own, threads, cols);
      }
    }
    end_copies();
  };
  unsigned fetch_row = first;
  for (int stage = 0; stage < ring_end; stage += kStageBytes) {
    staged_x(stage).clear_beyond(threads, cols);
    if constexpr (kResidual) staged_branch(stage).clear_beyond(threads, cols);
    fetch(fetch_row, stage);
    fetch_row += step;
  }
  // Where there are no registers for them, weight and bias are read again for each row.
  constexpr bool kKeeps = kPacks * kWidth <= 16 || (!kResidual && sizeof(S) + sizeof(W) == 4);
  Parameters<W, kWidth> weights[kPacks];
  Parameters<W, kWidth> biases[kPacks];
  const auto read_parameters = [&](int p) {
    const int col = threads.column<kWidth>(p);
    weights[p] = Parameters<W, kWidth>(args.weight, col, col < cols, kOnes<W>);
    biases[p] = Parameters<W, kWidth>(args.bias, col, col < cols, 0);
  };
#pragma unroll
  for (int p = 0; kKeeps && p < kPacks; ++p)
    read_parameters(p);
  const auto guess_of = [&](unsigned row) {
    return guess_mean<kNorm, T, S, kResidual, kWidth>(args, mask, row, row < rows);
  };
  float guess = guess_of(first);
  const bool is_in_place = kResidual && args.sum.data == args.residual.data;

  const auto take_moments = [&](int stage, float center, float(&sums)[2]) {
    sums[0] = sums[1] = 0.0F;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      float values[kWidth];
      device::to_floats(staged_x(stage)[p], values);
      add_moments<kNorm>(values, threads.column<kWidth>(p) < cols ? center : 0.0F, sums);
    }
  };
  int stage = 0;
  int stage_before = 0;
  float center_before = 0.0F;
  for (unsigned row = first; row < rows + step; row += step) {
    const float center = guess;
    float sums[2];
    if (row < rows) {
      if (is_in_place) row_sum.synchronise();  // all have the guess of the row
      guess = guess_of(row + step);
      unsigned kept = 0;
      if constexpr (kResidual) {
        kept = kept_elements<kWidth, kPacks>(mask, row * args.x.cols + own, threads.count * kWidth);
      }
      wait_for_stage(scalars.stages - 1);
      if constexpr (kResidual) {
#pragma unroll
        for (int p = 0; p < kPacks; ++p) {
          const int col = threads.column<kWidth>(p);
          const auto sum =
              add_residual(staged_branch(stage)[p], staged_x(stage)[p], mask, kept >> (p * kWidth));
          staged_x(stage).own[p * kMaxThreads] = sum;
          device::store_pack_if(row_of<S>(args.sum, row) + col, sum, col < cols);
        }
      }
      take_moments(stage, center, sums);
    }
    float sums_before[2];
    Moments moments{};
    if (row != first) {
      row_sum.end(sums_before);
      moments = Moments(center_before, sums_before, scalars.inverse);
      if (kNorm == Norm::layer && moments.is_inexact()) {  // alike in all threads of the cluster
        const float mean = moments.mean();
        take_moments(stage_before, mean, sums_before);
        row_sum.reduce(sums_before);
        moments = Moments(mean, sums_before, scalars.inverse);
      }
    }
    if (row < rows) row_sum.begin(sums);
    if (row != first) {
      const unsigned row_before = row - step;
      const float rstd = moments.rstd(scalars.eps);
      const float shift = -moments.offset * rstd;
      if (threads.index == 0) write_moments(args, row_before, moments, rstd);
      T* const y = row_of<T>(args.y, row_before);
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const int col = threads.column<kWidth>(p);
        float values[kWidth];
        device::to_floats(staged_x(stage_before)[p], values);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          values[i] -= moments.center;
        if constexpr (!kKeeps) read_parameters(p);
        normalise(values, rstd, shift, weights[p], biases[p]);
        device::store_pack_if(y + col, device::from_floats<T>(values), col < cols);
      }
      fetch(fetch_row, stage_before);
      fetch_row += step;
    }
    stage_before = stage;
    center_before = center;
    stage = stage + kStageBytes == ring_end ? 0 : stage + kStageBytes;
  }
#endif
}

/// A row per block and round, in shared memory: scalars.stages rows are there or on their way
/// there, so that the reads of the next rows go on while one is worked on. A thread reads only what
/// it copied there itself.
template <class T, class S, class W, Norm kNorm, bool kResidual, int kWidth>
__global__ void __launch_bounds__(kMaxThreads, 2)
    forward_ring(const LayerNorm args, const DropMask mask, const ForwardScalars scalars) {
  __shared__ typename RowSum<RowReach::block>::Scratch scratch;
  extern __shared__ __align__(128) std::byte ring[];  // a warp reads whole 128 B lines
  RowSum<RowReach::block> row_sum(scratch);
  prefetch_parameters<W, kWidth>(args.weight, args.bias);
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
    return guess_mean<kNorm, T, S, kResidual, kWidth>(args, mask, row, row < rows);
  };
  std::int64_t row = blockIdx.x;
  for (int stage = 0; stage < ring_end; stage += stage_bytes)
    fetch(row + std::int64_t{stage / stage_bytes} * gridDim.x, stage);
  float guess = guess_of(row);
  if constexpr (kResidual) row_sum.synchronise();  // sum may be written over residual

  for (int stage = 0; row < rows; row += gridDim.x) {
    S* const stream = reinterpret_cast<S*>(ring + stage);
    const T* const branch = reinterpret_cast<const T*>(stream + padded);
    const float center = guess;
    guess = guess_of(row + gridDim.x);
    wait_for_stage(scalars.stages);
    float sums[2] = {};
    for (int col = begin; col < cols; col += step) {
      auto pack = device::load_pack<kWidth>(stream + col);
      if constexpr (kResidual) {
        const auto x = device::load_pack<kWidth>(branch + col);
        pack = add_residual(x, pack, mask, kept_elements<kWidth>(mask, row * args.x.cols + col));
        device::store_pack(row_of<S>(args.sum, row) + col, pack);
        device::store_pack(stream + col, pack);
      }
      float values[kWidth];
      device::to_floats(pack, values);
      add_moments<kNorm>(values, center, sums);
    }
    row_sum.reduce(sums);
    Moments moments(center, sums, scalars.inverse);
    if (kNorm == Norm::layer && moments.is_inexact()) {  // alike in all threads
      const float mean = moments.mean();
      sums[0] = sums[1] = 0.0F;
      for (int col = begin; col < cols; col += step) {
        float values[kWidth];
        device::to_floats(device::load_pack<kWidth>(stream + col), values);
        add_moments<kNorm>(values, mean, sums);
      }
      row_sum.reduce(sums);
      moments = Moments(mean, sums, scalars.inverse);
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

}  // namespace lamina::kernels::row_norm
