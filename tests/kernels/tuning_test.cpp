// SPDX-License-Identifier: MIT
// The policies of the row kernels (LayerNorm and RMSNorm): that tables and rule give a legal one
// for every problem, and that a legal one is what the kernels count on. Plain C++, without a GPU;
// says nothing about what the tables hold, which is measured.
#include "core/text.h"
#include "cuda_kernels/tuning/layer_norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace lamina::kernels::tuning {
namespace {

constexpr std::int64_t kMostRows = (std::int64_t{1} << 31) - 1;
constexpr std::int64_t kDenseCols = 70000;
constexpr std::int64_t kLongRows[] = {131072, 262144, 300000};
constexpr int kTunedArchitecture = 90;
constexpr int kArchitectures[] = {80, 86, 90, 100, 120};

struct Types {
  int element_bytes, stream_bytes;
};

constexpr Types kTypes[] = {{2, 2}, {4, 4}, {2, 4}};

enum class Pass : std::uint8_t { forward, backward };

constexpr RowPolicy held(int packs, int block_threads) {
  return {.variant = RowVariant::held, .packs = packs, .block_threads = block_threads};
}

constexpr RowPolicy ring(int packs, int block_threads, int stages) {
  return {.variant = RowVariant::ring,
          .packs = packs,
          .block_threads = block_threads,
          .stages = stages,
          .blocks_per_sm = 1};
}

constexpr RowPolicy cluster(int packs, int blocks, int stages = 3, int blocks_per_sm = 1) {
  return {.variant = RowVariant::cluster,
          .packs = packs,
          .cluster = blocks,
          .stages = stages,
          .blocks_per_sm = blocks_per_sm};
}

constexpr RowProblem bf16_rows(std::int64_t cols) {
  return {.rows = 4096, .cols = cols};
}

constexpr RowProblem on(int sm, RowProblem problem) {
  problem.sm = sm;
  return problem;
}

constexpr RowProblem without_vectors(RowProblem problem) {
  problem.has_vectors = false;
  return problem;
}

// Groups of threads: a power of two within a warp, whole warps beyond.
static_assert(held(1, 128).threads_per_row(bf16_rows(8)) == 1);
static_assert(held(1, 128).threads_per_row(bf16_rows(120)) == 16);
static_assert(held(1, 128).threads_per_row(bf16_rows(136)) == 32);
static_assert(held(1, 128).threads_per_row(bf16_rows(264)) == 64);
static_assert(held(1, 128).rows_per_block(bf16_rows(8)) == 128);
static_assert(held(1, 128).rows_per_block(bf16_rows(768)) == 1);
static_assert(held(4, 128).rows_per_block(bf16_rows(768)) == 4);
static_assert(cluster(2, 4).threads_per_row(bf16_rows(32768)) == 512);

// A policy is legal up to the last column that its threads have room for.
static_assert(is_legal_forward(held(4, 128), bf16_rows(4096)));
static_assert(!is_legal_forward(held(4, 128), bf16_rows(4104)));
static_assert(is_legal_forward(held(4, 1024), bf16_rows(32768)));
static_assert(!is_legal_forward(held(4, 1024), bf16_rows(32776)));
static_assert(!is_legal_forward(held(3, 1024), bf16_rows(8192)));
static_assert(is_legal_backward(ring(2, 512, 2), bf16_rows(8192)));
static_assert(!is_legal_backward(ring(2, 512, 2), bf16_rows(8200)));
static_assert(is_legal_backward(cluster(2, 8), bf16_rows(65536)));
static_assert(!is_legal_backward(cluster(2, 8), bf16_rows(65544)));

// Shared memory, clusters and vectors are asked for where they are.
static_assert(is_legal_backward(ring(2, 512, 3), bf16_rows(8192)));
static_assert(!is_legal_backward(ring(2, 512, 3), on(86, bf16_rows(8192))));
static_assert(is_legal_forward(cluster(2, 4), bf16_rows(32768)));
static_assert(!is_legal_forward(cluster(2, 4), on(80, bf16_rows(32768))));
static_assert(!is_legal_forward(cluster(8, 4), without_vectors(bf16_rows(4097))));

std::string text_of(const RowProblem& problem) {
  return cat("rows ", problem.rows, " cols ", problem.cols, " bytes ", problem.element_bytes, "/",
             problem.stream_bytes, " vectors ", problem.has_vectors, " residual ",
             problem.has_residual, " tail ", problem.has_tail, " sm ", problem.sm);
}

std::string text_of(const RowPolicy& policy) {
  return cat("variant ", static_cast<int>(policy.variant), " packs ", policy.packs, " threads ",
             policy.block_threads, " cluster ", policy.cluster, " stages ", policy.stages,
             " blocks ", policy.blocks_per_sm);
}

RowPolicy policy_of(Pass pass, const RowProblem& problem) {
  return pass == Pass::forward ? forward_policy(problem) : backward_policy(problem);
}

RowPolicy rule_of(Pass pass, const RowProblem& problem) {
  return pass == Pass::forward ? forward_rule(problem) : backward_rule(problem);
}

bool is_legal(Pass pass, const RowPolicy& policy, const RowProblem& problem) {
  return pass == Pass::forward ? is_legal_forward(policy, problem)
                               : is_legal_backward(policy, problem);
}

std::span<const TunedRow> table_of(Pass pass) {
  return pass == Pass::forward ? std::span<const TunedRow>(kForwardSm90)
                               : std::span<const TunedRow>(kBackwardSm90);
}

/// Shared memory that a block can have, bytes: CUDA C++ Programming Guide, table "Technical
/// Specifications per Compute Capability".
int hardware_shared_bytes(int sm) {
  switch (sm) {
    case 80:
      return 163 << 10;
    case 90:
    case 100:
      return 227 << 10;
    default:
      return 99 << 10;
  }
}

/// What is wrong with launching the kernel of `policy` for `problem`, from the policy's numbers
/// alone; empty when nothing is.
std::string defect_of(Pass pass, const RowPolicy& policy, const RowProblem& problem) {
  constexpr int kStaticSharedBytes = 4 << 10;
  const int threads = policy.threads_per_row(problem);
  if (threads <= 0) return "no thread for a row";
  const int rows = policy.rows_per_block(problem);
  const int block = threads * rows;
  const int most = policy == kWideHeld ? 1024 : kMaxRowThreads;
  if (block < 32 || block > most || block % 32 != 0) return cat("a block of ", block, " threads");
  const bool is_within_warp = threads < 32 && (threads & (threads - 1)) == 0;
  if (!is_within_warp && threads % 32 != 0) return cat(threads, " threads per row");
  if (policy.cluster < 1 || policy.cluster > kMaxRowCluster) return "the size of the cluster";
  const bool is_cluster = policy.variant == RowVariant::cluster;
  if (policy.cluster > 1 && !is_cluster) return "a cluster for a kernel without";
  if (is_cluster && (problem.sm < 90 || rows != 1 || is_within_warp))
    return "a cluster that cannot be";
  const bool is_persistent =
      pass == Pass::backward || is_cluster || policy.variant == RowVariant::ring;
  if (is_persistent != (policy.blocks_per_sm > 0)) return "blocks per multiprocessor";

  const std::int64_t shared_bytes = pass == Pass::forward ? forward_shared_bytes(policy, problem)
                                                          : backward_shared_bytes(policy, problem);
  if (policy.packs > 0) {
    const std::int64_t elements = std::int64_t{threads} * policy.packs * problem.width();
    if (elements * policy.cluster < problem.cols) return cat("room for ", elements, " columns");
    const bool is_staged = is_persistent;
    if (is_staged != (policy.stages >= (is_cluster ? 3 : 2))) return cat(policy.stages, " stages");
    const int operands =
        pass == Pass::forward ? problem.stream_bytes : problem.stream_bytes + problem.element_bytes;
    if (policy.stages * elements * rows * operands > shared_bytes) return "the ring has no room";
    if (pass == Pass::backward && rows > 1 && rows * problem.cols * 4 > shared_bytes)
      return "the groups' sums have no room";
  }
  if (shared_bytes + kStaticSharedBytes > hardware_shared_bytes(problem.sm))
    return cat(shared_bytes, " bytes of shared memory");
  return {};
}

/// Calls visit() for every kind of operands, on these architectures.
void for_each_kind(std::span<const int> architectures,
                   const std::function<void(RowProblem)>& visit) {
  for (const int sm : architectures) {
    for (const Types& types : kTypes) {
      for (const bool has_vectors : {true, false}) {
        for (const int mode : {0, 1, 2, 3}) {
          RowProblem problem{};
          problem.rows = 1;
          problem.element_bytes = types.element_bytes;
          problem.stream_bytes = types.stream_bytes;
          problem.has_vectors = has_vectors;
          problem.has_residual = mode % 2 != 0;
          problem.has_tail = mode >= 2;
          problem.sm = sm;
          visit(problem);
        }
      }
    }
  }
}

/// Columns from one size of a kind to the next: rows with vectors are multiples of 16 bytes.
std::int64_t step_of(const RowProblem& kind) {
  return kind.has_vectors ? 16 / kind.element_bytes : 1;
}

std::vector<std::int64_t> sizes_of(const RowProblem& kind) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t cols = step_of(kind); cols <= kDenseCols; cols += step_of(kind))
    sizes.push_back(cols);
  sizes.insert(sizes.end(), std::begin(kLongRows), std::end(kLongRows));
  return sizes;
}

/// Numbers of rows on both sides of every limit in a table.
std::set<std::int64_t> rows_around_limits(std::span<const TunedRow> table) {
  std::set<std::int64_t> numbers = {1, 4096, kMostRows};
  for (const TunedRow& row : table) {
    numbers.insert(std::min(row.max_rows, kMostRows));
    numbers.insert(std::min(row.max_rows + 1, kMostRows));
  }
  return numbers;
}

/// Fails unless the policy of `problem` can run it.
void expect_runnable(Pass pass, const RowProblem& problem) {
  const RowPolicy policy = policy_of(pass, problem);
  ASSERT_TRUE(is_legal(pass, policy, problem)) << text_of(policy) << "\n" << text_of(problem);
  ASSERT_EQ(defect_of(pass, policy, problem), "") << text_of(policy) << "\n" << text_of(problem);
}

class RowPolicyTables : public ::testing::TestWithParam<Pass> {};

TEST_P(RowPolicyTables, GiveAPolicyThatCanRunForEveryNumberOfColumns) {
  for_each_kind(kArchitectures, [](RowProblem problem) {
    for (const std::int64_t cols : sizes_of(problem)) {
      problem.cols = cols;
      for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{4096}, kMostRows}) {
        problem.rows = rows;
        expect_runnable(GetParam(), problem);
        if (HasFatalFailure()) return;
      }
    }
  });
}

TEST_P(RowPolicyTables, GiveAPolicyThatCanRunAroundEveryLimitOfTheTable) {
  const std::span<const TunedRow> table = table_of(GetParam());
  const std::set<std::int64_t> row_numbers = rows_around_limits(table);
  for_each_kind(std::array{kTunedArchitecture}, [&](RowProblem problem) {
    const std::int64_t step = step_of(problem);
    std::set<std::int64_t> sizes;
    for (const TunedRow& row : table) {
      const std::int64_t last = row.max_cols / step * step;
      if (last > 0) sizes.insert(last);
      sizes.insert(last + step);
    }
    for (const std::int64_t cols : sizes) {
      for (const std::int64_t rows : row_numbers) {
        problem.cols = cols;
        problem.rows = rows;
        expect_runnable(GetParam(), problem);
        if (HasFatalFailure()) return;
      }
    }
  });
}

TEST_P(RowPolicyTables, AreNotAskedOnAnArchitectureThatWasNotMeasured) {
  constexpr int kOthers[] = {80, 86, 89, 100, 103, 120, 121, 999};
  for_each_kind(kOthers, [](RowProblem problem) {
    for (const std::int64_t cols : {8, 768, 1000, 4096, 8192, 32768, 131072}) {
      problem.cols = cols;
      const RowPolicy rule = rule_of(GetParam(), problem);
      ASSERT_EQ(policy_of(GetParam(), problem) == rule, true) << text_of(problem);
      ASSERT_TRUE(is_legal(GetParam(), rule, problem)) << text_of(problem);
    }
  });
}

/// A problem that finds `wanted`, of all that its own limits allow.
bool is_found_by_some_problem(Pass pass, const TunedRow& wanted) {
  const std::span<const TunedRow> table = table_of(pass);
  RowProblem problem{};
  problem.element_bytes = wanted.element_bytes;
  problem.stream_bytes = wanted.stream_bytes;
  problem.has_residual = wanted.has_residual;
  problem.has_tail = wanted.has_tail;
  problem.sm = kTunedArchitecture;
  const std::int64_t step = step_of(problem);
  for (std::int64_t cols = wanted.max_cols / step * step; cols > 0; cols -= step) {
    problem.cols = cols;
    // Of the numbers of rows that it is for, the most: the fewest other entries are for as many.
    problem.rows = std::min(wanted.max_rows, kMostRows);
    const TunedRow* const found =
        find_tuned(table, problem, pass == Pass::forward ? is_legal_forward : is_legal_backward);
    if (found == &wanted) return true;
  }
  return false;
}

TEST_P(RowPolicyTables, HaveNoRowThatIsNeverChosen) {
  const std::span<const TunedRow> table = table_of(GetParam());
  for (std::size_t i = 0; i < table.size(); ++i) {
    EXPECT_TRUE(is_found_by_some_problem(GetParam(), table[i]))
        << "row " << i << ": bytes " << table[i].element_bytes << "/" << table[i].stream_bytes
        << " residual " << table[i].has_residual << " tail " << table[i].has_tail << " up to "
        << table[i].max_rows << " rows of " << table[i].max_cols << ": "
        << text_of(table[i].policy);
  }
}

std::string name_of(const ::testing::TestParamInfo<Pass>& info) {
  return info.param == Pass::forward ? "Forward" : "Backward";
}

INSTANTIATE_TEST_SUITE_P(Cpu, RowPolicyTables, ::testing::Values(Pass::forward, Pass::backward),
                         name_of);

/// A row for plain bf16 rows.
constexpr TunedRow bf16_row(std::int64_t max_cols, std::int64_t max_rows, RowPolicy policy) {
  return {2, 2, false, false, max_cols, max_rows, policy};
}

TEST(RowPolicyTable, GivesTheFirstRowThatIsLargeEnough) {
  constexpr std::array kTable{bf16_row(1024, 64, held(1, 128)), bf16_row(1024, 512, held(2, 128)),
                              bf16_row(4096, kAnyRows, held(4, 128))};
  const auto find = [&](std::int64_t rows, std::int64_t cols) -> std::ptrdiff_t {
    RowProblem problem = bf16_rows(cols);
    problem.rows = rows;
    const TunedRow* const row = find_tuned(kTable, problem, is_legal_forward);
    return row == nullptr ? -1 : row - kTable.data();
  };
  EXPECT_EQ(find(64, 1024), 0);
  EXPECT_EQ(find(65, 1024), 1);
  EXPECT_EQ(find(513, 1024), 2);
  EXPECT_EQ(find(1, 1032), 2);
  EXPECT_EQ(find(kMostRows, 8), 2);
  EXPECT_EQ(find(1, 4104), -1);
}

TEST(RowPolicyTable, PassesOverRowsWhosePolicyIsTooSmall) {
  constexpr std::array kTable{bf16_row(8192, kAnyRows, held(1, 128)),
                              bf16_row(8192, kAnyRows, held(2, 512))};
  static_assert(find_tuned(kTable, bf16_rows(1024), is_legal_forward) == &kTable[0]);
  static_assert(find_tuned(kTable, bf16_rows(1032), is_legal_forward) == &kTable[1]);
  EXPECT_EQ(find_tuned(std::span(kTable).first(1), bf16_rows(1032), is_legal_forward), nullptr);
}

TEST(RowPolicyTable, PassesOverRowsThatNeedAnotherMachine) {
  constexpr std::array kTable{bf16_row(32768, kAnyRows, cluster(4, 2))};
  EXPECT_EQ(find_tuned(kTable, bf16_rows(32768), is_legal_forward), kTable.data());
  EXPECT_EQ(find_tuned(kTable, on(80, bf16_rows(32768)), is_legal_forward), nullptr);
}

TEST(RowPolicyTable, IsOnlyForItsOwnTypesAndOperands) {
  constexpr std::array kTable{bf16_row(4096, kAnyRows, held(4, 128))};
  ASSERT_NE(find_tuned(kTable, bf16_rows(768), is_legal_forward), nullptr);
  const auto is_missed = [&](void (*change)(RowProblem&)) {
    RowProblem problem = bf16_rows(768);
    change(problem);
    return find_tuned(kTable, problem, is_legal_forward) == nullptr;
  };
  EXPECT_TRUE(is_missed([](RowProblem& problem) { problem.element_bytes = 4; }));
  EXPECT_TRUE(is_missed([](RowProblem& problem) { problem.stream_bytes = 4; }));
  EXPECT_TRUE(is_missed([](RowProblem& problem) { problem.has_residual = true; }));
  EXPECT_TRUE(is_missed([](RowProblem& problem) { problem.has_tail = true; }));
  EXPECT_TRUE(is_missed([](RowProblem& problem) { problem.has_vectors = false; }));
}

constexpr RowProblem rows_of(int sm, Types types, std::int64_t cols, bool has_residual) {
  RowProblem problem = on(sm, bf16_rows(cols));
  problem.element_bytes = types.element_bytes;
  problem.stream_bytes = types.stream_bytes;
  problem.has_residual = has_residual;
  return problem;
}

// The rule reads rows once as long as shared memory and registers have room for them.
static_assert(backward_rule(rows_of(86, {2, 2}, 768, true)).variant == RowVariant::ring);
static_assert(backward_rule(rows_of(86, {2, 2}, 4096, true)).variant == RowVariant::ring);
static_assert(backward_rule(rows_of(86, {4, 4}, 2048, false)).variant == RowVariant::ring);
static_assert(backward_rule(rows_of(80, {4, 4}, 1024, true)).variant == RowVariant::ring);
static_assert(backward_rule(rows_of(90, {2, 4}, 32768, true)).variant == RowVariant::cluster);
static_assert(forward_rule(rows_of(90, {2, 4}, 65536, true)).variant == RowVariant::cluster);
static_assert(forward_rule(rows_of(100, {4, 4}, 65536, true)).variant == RowVariant::cluster);

TEST(RowPolicy, TakesNoClusterWhereThereIsNoCodeForOne) {
  for_each_kind(std::array{kTunedArchitecture}, [](RowProblem problem) {
    for (int& count : problem.clusters)
      count = 0;
    for (const std::int64_t cols : {768, 4096, 16384, 32768, 65536}) {
      problem.cols = cols;
      for (const Pass pass : {Pass::forward, Pass::backward}) {
        const RowPolicy policy = policy_of(pass, problem);
        ASSERT_TRUE(is_legal(pass, policy, problem)) << text_of(problem);
        ASSERT_NE(policy.variant, RowVariant::cluster) << text_of(problem);
      }
    }
  });
}

/// Calls visit() for policies of every variant, with numbers inside and outside of all limits.
void for_each_policy(const std::function<void(const RowPolicy&)>& visit) {
  for (const RowVariant variant :
       {RowVariant::held, RowVariant::ring, RowVariant::cluster, RowVariant::streamed}) {
    for (const int packs : {-1, 0, 1, 2, 3, 4, 6, 8, 12, 24, 32}) {
      for (const int threads : {0, 16, 32, 96, 128, 144, 256, 384, 512, 1024}) {
        for (const int blocks : {0, 1, 2, 8, 16}) {
          for (const int stages : {0, 1, 2, 4, 5}) {
            for (const int per_sm : {-1, 0, 1, 2})
              visit({variant, packs, threads, blocks, stages, per_sm});
          }
        }
      }
    }
  }
}

TEST(RowPolicy, IsLegalOnlyIfItCanRun) {
  constexpr int kSome[] = {80, 86, 90};
  int legal = 0;
  for_each_policy([&](const RowPolicy& policy) {
    if (HasFatalFailure()) return;
    for_each_kind(kSome, [&](RowProblem problem) {
      for (const std::int64_t cols : {1, 8, 120, 264, 768, 1001, 5000, 8192, 32768, 131072}) {
        if (cols % step_of(problem) != 0) continue;
        problem.cols = cols;
        for (const Pass pass : {Pass::forward, Pass::backward}) {
          if (!is_legal(pass, policy, problem)) continue;
          ++legal;
          ASSERT_EQ(defect_of(pass, policy, problem), "") << text_of(policy) << "\n"
                                                          << text_of(problem);
        }
      }
    });
  });
  EXPECT_GT(legal, 0);
}

}  // namespace
}  // namespace lamina::kernels::tuning
