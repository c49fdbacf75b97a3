// SPDX-License-Identifier: MIT
// Which variant of the row kernels (LayerNorm and RMSNorm) runs: one chosen from what was measured
// on this kind of GPU, else by a rule of thumb from register counts.
#pragma once

#include "cuda_kernels/tuning/layer_norm_sm90.h"
#include "cuda_kernels/tuning/row_policy.h"

#include <span>

namespace lamina::kernels::tuning {

/// The rule of thumb: up to 32 elements per thread, a warp per row as long as that is enough,
/// then blocks, then clusters.
constexpr RowPolicy forward_rule(const RowProblem& problem) {
  const std::int64_t packs = (problem.cols + problem.width() - 1) / problem.width();
  if (!problem.has_vectors) {
    if (packs <= 8 * kMaxRowThreads) {
      return {.variant = RowVariant::held, .packs = 8, .block_threads = packs <= 1024 ? 128 : 512};
    }
    return {.block_threads = 512};
  }
  const int most = 32 / problem.width();  // packs per thread
  for (int per_thread = 1; per_thread <= most; per_thread *= 2) {
    if (packs <= std::int64_t{32} * per_thread) {
      return {.variant = RowVariant::held, .packs = per_thread, .block_threads = 128};
    }
  }
  for (const int threads : {128, 256, kMaxRowThreads}) {
    if (packs <= std::int64_t{threads} * most) {
      return {.variant = RowVariant::held, .packs = most, .block_threads = threads};
    }
  }
  const RowPolicy ring{
      .variant = RowVariant::ring, .block_threads = 512, .stages = 2, .blocks_per_sm = 1};
  if (is_legal_forward(ring, problem)) return ring;
  for (const int held : {most, most / 2}) {  // half as many for mixed types
    for (const int cluster : {2, 4, 8}) {
      const RowPolicy policy{.variant = RowVariant::cluster,
                             .packs = held,
                             .block_threads = kMaxRowThreads,
                             .cluster = cluster,
                             .stages = 3,
                             .blocks_per_sm = 1};
      if (is_legal_forward(policy, problem)) return policy;
    }
  }
  return {.block_threads = 512};
}

/// 8 elements per thread for short rows, else 16, whose sums over rows take two or three registers
/// each, or 8 again where 16 have no room in shared memory or registers.
constexpr RowPolicy backward_rule(const RowProblem& problem) {
  const RowPolicy streamed{.block_threads = 512, .blocks_per_sm = 1};
  const int most = problem.cols <= 512 || !problem.has_vectors ? 8 : 16;
  const int clusters = problem.has_vectors && problem.has_clusters() ? kMaxRowCluster : 1;
  for (int cluster = 1; cluster <= clusters; cluster *= 2) {
    for (int elements = most; elements >= 8; elements -= 8) {
      for (int threads : {256, kMaxRowThreads}) {
        for (const int stages : {cluster == 1 ? 2 : 4, 3}) {
          const RowPolicy policy{.variant = cluster == 1 ? RowVariant::ring : RowVariant::cluster,
                                 .packs = elements / problem.width(),
                                 .block_threads = threads,
                                 .cluster = cluster,
                                 .stages = stages,
                                 .blocks_per_sm = kMaxRowThreads / threads};
          if (!is_legal_backward(policy, problem)) continue;
          constexpr int kPerBlock = 5 << 10;  // what each takes besides
          const int bytes = backward_shared_bytes(policy, problem) + kPerBlock;
          if (bytes * policy.blocks_per_sm <= shared_limit(problem.sm) + kPerBlock) return policy;
        }
      }
    }
  }
  return streamed;
}

/// The first row of `table` for these types and operands that is large enough and legal, or
/// nothing.
constexpr const TunedRow* find_tuned(std::span<const TunedRow> table, const RowProblem& problem,
                                     bool (*is_legal)(const RowPolicy&, const RowProblem&)) {
  if (!problem.has_vectors) return nullptr;
  for (const TunedRow& row : table) {
    if (row.element_bytes == problem.element_bytes && row.stream_bytes == problem.stream_bytes &&
        row.has_residual == problem.has_residual && row.has_tail == problem.has_tail &&
        problem.cols <= row.max_cols && problem.rows <= row.max_rows &&
        is_legal(row.policy, problem)) {
      return &row;
    }
  }
  return nullptr;
}

constexpr RowPolicy forward_policy(const RowProblem& problem) {
  if (problem.sm == 90) {
    const TunedRow* const row = find_tuned(kForwardSm90, problem, is_legal_forward);
    if (row != nullptr) return row->policy;
  }
  return forward_rule(problem);
}

constexpr RowPolicy backward_policy(const RowProblem& problem) {
  if (problem.sm == 90) {
    const TunedRow* const row = find_tuned(kBackwardSm90, problem, is_legal_backward);
    if (row != nullptr) return row->policy;
  }
  return backward_rule(problem);
}

}  // namespace lamina::kernels::tuning
