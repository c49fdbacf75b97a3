// SPDX-License-Identifier: MIT
// Policies of the row kernels (LayerNorm and RMSNorm, forward and backward): the variants there
// are, what each may be used for, and which one runs. The choice is a table measured on the GPU
// (layer_norm_sm90.h, written by benchmarks/kernels/layer_norm_sweep), and a rule of thumb for GPUs
// without one. See docs/kernels/layer_norm.md.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lamina::kernels::tuning {

inline constexpr int kMaxRowThreads = 512;  // per block, of every row kernel but one
inline constexpr int kMaxRowCluster = 8;    // blocks, of every GPU that has clusters
inline constexpr int kMaxBlocksPerSm = 32;  // of every GPU

/// What the choice of a policy depends on.
struct RowProblem {
  std::int64_t rows = 0, cols = 0;
  int element_bytes = 2;      // of x and y (dy and dx_drop)
  int stream_bytes = 2;       // of the residual stream, >= element_bytes
  bool has_vectors = true;    // all rows start on 16 bytes and are a multiple of 16 bytes long
  bool has_residual = false;  // forward: residual; backward: dsum
  bool has_tail = false;      // backward: dx_drop or column_sum
  int sm = 90;                // compute capability
  int multiprocessors = 132;
  int clusters[3] = {66, 32, 16};  // of 2, 4 and 8 blocks, a multiprocessor each, at once; or 0

  /// Elements that a thread loads at a time: 16 bytes of the wider type.
  constexpr int width() const {
    return has_vectors ? 16 / std::max(element_bytes, stream_bytes) : 1;
  }

  /// Whether blocks can form clusters: on a GPU that has them, with code for it.
  constexpr bool has_clusters() const { return sm >= 90 && clusters[0] > 0; }

  /// Groups of `cluster` blocks that run at once, a multiprocessor for each block.
  constexpr int groups_at_once(int cluster) const {
    return cluster == 1 ? multiprocessors : clusters[cluster == 2 ? 0 : cluster == 4 ? 1 : 2];
  }
};

/// How a row is worked on.
///   held      each row is read once and stays in registers of its group of threads (forward)
///   ring      in shared memory, by a persistent grid whose next rows are on their way there
///   cluster   likewise, by the blocks of a cluster (forward also by a single one), which send each
///             other their sums and finish a row while those of the next are on their way
///   streamed  read again in each pass, for any size and alignment
enum class RowVariant : std::uint8_t { held, ring, cluster, streamed };

/// A group of threads owns a row: `packs` pieces of width() elements per thread.
struct RowPolicy {
  RowVariant variant = RowVariant::streamed;
  int packs = 0;            // per thread; 0: as many as it takes
  int block_threads = 512;  // the group's threads, or as many groups as fit
  int cluster = 1;          // blocks per row
  int stages = 0;           // rows in shared memory per group; 0: none
  int blocks_per_sm = 0;    // of a persistent grid; 0: one block for each group of rows

  constexpr bool operator==(const RowPolicy&) const = default;

  /// Threads of one block that own a row: a power of two up to 32, or a multiple of 32.
  constexpr int threads_per_row(const RowProblem& problem) const {
    if (packs == 0 || block_threads > kMaxRowThreads) return block_threads;
    const std::int64_t span = std::int64_t{packs} * problem.width() * cluster;
    constexpr std::int64_t kTooMany = 1 << 20;  // more than any block has
    const std::int64_t threads = std::min((problem.cols + span - 1) / span, kTooMany);
    if (threads > 16) return static_cast<int>((threads + 31) / 32 * 32);
    int power = 1;
    while (power < threads)
      power *= 2;
    return power;
  }

  constexpr int rows_per_block(const RowProblem& problem) const {
    return variant == RowVariant::cluster ? 1
                                          : std::max(1, block_threads / threads_per_row(problem));
  }
};

/// The held variant with as many threads as a block can have, all of them in each block: for rows
/// that are longer than kMaxRowThreads can hold, and where half the registers are enough.
inline constexpr RowPolicy kWideHeld{
    .variant = RowVariant::held, .packs = 4, .block_threads = 1024};

/// Bytes of shared memory that a block may have, beside what the row kernels declare (4 KiB).
constexpr int shared_limit(int sm) {
  const int kib = sm == 80 || sm == 87 ? 163 : sm == 90 || sm == 100 || sm == 103 ? 227 : 99;
  return (kib - 4) * 1024;
}

/// Bytes in shared memory of a row of a block's columns, element_bytes for each element.
constexpr int stage_bytes(const RowPolicy& policy, const RowProblem& problem, int element_bytes) {
  const std::int64_t span = std::int64_t{policy.threads_per_row(problem)} * problem.width();
  const std::int64_t packs = policy.packs == 0 ? (problem.cols + span - 1) / span : policy.packs;
  constexpr std::int64_t kTooMany = 1 << 28;
  return static_cast<int>(std::min(packs * span * element_bytes, kTooMany));
}

/// Rows of a forward block at a time: rows of several warps do not share one.
constexpr int forward_rows_per_block(const RowPolicy& policy, const RowProblem& problem) {
  return policy.threads_per_row(problem) > 32 ? 1 : policy.rows_per_block(problem);
}

/// Of a backward block with that many elements per thread: sums over rows take two registers each,
/// three with a tail; a wider stream takes more.
constexpr int max_backward_threads(int elements, bool has_wide_stream, bool has_tail) {
  return elements > (has_wide_stream && has_tail ? 8 : 16) ? 384 : kMaxRowThreads;
}

constexpr int max_backward_threads(const RowPolicy& policy, const RowProblem& problem) {
  return max_backward_threads(policy.packs * problem.width(),
                              problem.element_bytes != problem.stream_bytes, problem.has_tail);
}

/// Dynamic shared memory of a forward block: the rows of its ring, for clusters with room for as
/// many threads as a block can have.
constexpr int forward_shared_bytes(const RowPolicy& policy, const RowProblem& problem) {
  if (policy.stages == 0) return 0;
  const int bytes = problem.stream_bytes + (problem.has_residual ? problem.element_bytes : 0);
  constexpr std::int64_t kTooMany = 1 << 28;
  const int stage = policy.packs == 0 ? stage_bytes(policy, problem, bytes)
                                      : kMaxRowThreads * policy.packs * problem.width() * bytes;
  return static_cast<int>(std::min(std::int64_t{policy.stages} * stage, kTooMany));
}

/// Dynamic shared memory of a backward block: its ring, with room for as many threads as a block
/// can have, which is later where its groups' sums meet (8 bytes per element and group: no more
/// than two stages).
constexpr int backward_shared_bytes(const RowPolicy& policy, const RowProblem& problem) {
  if (policy.variant == RowVariant::streamed) return 0;  // as much as there is, if the sums fit
  const int bytes = problem.element_bytes + problem.stream_bytes * (problem.has_residual ? 2 : 1);
  const int elements = policy.packs * problem.width();
  return policy.stages * max_backward_threads(policy, problem) * elements * bytes;
}

namespace detail {
template <int kCount>
constexpr bool is_one_of(int value, const int (&values)[kCount]) {
  return std::find(values, values + kCount, value) != values + kCount;
}

constexpr bool has_legal_shape(const RowPolicy& policy, const RowProblem& problem) {
  if (policy.block_threads < 32 || policy.block_threads > kMaxRowThreads ||
      policy.block_threads % 32 != 0 || policy.blocks_per_sm < 0 ||
      policy.blocks_per_sm > kMaxBlocksPerSm) {
    return false;
  }
  if (policy.cluster < 1 || policy.cluster > kMaxRowCluster) return false;
  const int threads = policy.threads_per_row(problem);
  if (threads > policy.block_threads) return false;
  if (policy.cluster == 1) return true;
  return problem.has_clusters() && problem.groups_at_once(policy.cluster) > 0 && threads >= 32;
}
}  // namespace detail

/// True when there is a forward kernel for the policy and it can do the problem.
constexpr bool is_legal_forward(const RowPolicy& policy, const RowProblem& problem) {
  constexpr int kHeld[] = {4, 8, 12, 16, 24, 32}, kSingle[] = {8};
  if (policy == kWideHeld) {
    const int room = policy.block_threads * policy.packs * problem.width();
    return problem.has_vectors && problem.cols <= room;
  }
  if (!detail::has_legal_shape(policy, problem)) return false;
  const int elements = policy.packs * problem.width();  // per thread and row
  if (policy.variant == RowVariant::ring || policy.variant == RowVariant::cluster) {
    const bool is_ring = policy.variant == RowVariant::ring;
    const int least = is_ring ? 2 : 3;  // clusters also keep the row that they finish
    const bool is_mixed = problem.element_bytes != problem.stream_bytes;  // needs more registers
    return problem.has_vectors && policy.stages >= least && policy.stages < least + 2 &&
           policy.blocks_per_sm >= 1 &&
           (is_ring ? policy.packs == 0 && policy.cluster == 1
                    : (elements == 16 || (elements == 32 && !is_mixed)) && problem.has_clusters() &&
                          policy.threads_per_row(problem) >= 32) &&
           forward_shared_bytes(policy, problem) <= shared_limit(problem.sm);
  }
  if (policy.stages != 0 || policy.blocks_per_sm != 0 || policy.cluster > 1) return false;
  if (policy.variant == RowVariant::streamed) return policy.packs == 0;
  if (!problem.has_vectors) {
    return policy.variant == RowVariant::held && detail::is_one_of(elements, kSingle);
  }
  return detail::is_one_of(elements, kHeld);
}

/// The same for the backward kernels: ring, cluster and streamed.
constexpr bool is_legal_backward(const RowPolicy& policy, const RowProblem& problem) {
  constexpr int kElements[] = {8, 16, 24};
  if (policy.blocks_per_sm < 1) return false;
  if (policy.variant == RowVariant::streamed) {
    return policy == RowPolicy{.block_threads = policy.block_threads,
                               .blocks_per_sm = policy.blocks_per_sm} &&
           detail::has_legal_shape(policy, problem);
  }
  const int elements = policy.packs * problem.width();
  if (policy.variant == RowVariant::held || !detail::is_one_of(elements, kElements)) return false;
  if (policy.block_threads > max_backward_threads(policy, problem)) return false;
  if (!problem.has_vectors && elements != 8) return false;
  if ((policy.cluster > 1) != (policy.variant == RowVariant::cluster)) return false;
  const bool is_mixed = problem.element_bytes != problem.stream_bytes;  // needs more registers
  if (is_mixed && elements > (policy.cluster > 1 ? 8 : 16)) return false;
  if (policy.cluster > 1 && (!problem.has_vectors || elements > 16)) return false;
  const int least = policy.cluster > 1 ? 3 : 2;  // clusters also keep the row that they finish
  return policy.stages >= least && policy.stages < least + 2 &&
         detail::has_legal_shape(policy, problem) &&
         backward_shared_bytes(policy, problem) <= shared_limit(problem.sm);
}

/// A row of a tuning table: the policy for problems of these types and operands up to this size.
struct TunedRow {
  int element_bytes, stream_bytes;
  bool has_residual, has_tail;
  std::int64_t max_cols, max_rows;
  RowPolicy policy;
};

inline constexpr std::int64_t kAnyRows = std::int64_t{1} << 31;

}  // namespace lamina::kernels::tuning
