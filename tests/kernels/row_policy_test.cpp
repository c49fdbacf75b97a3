// SPDX-License-Identifier: MIT
// Every variant of the row kernels (LayerNorm and RMSNorm, forward and backward) and every policy
// of the tuning tables, forced on every size that it is legal for, whatever the tables would
// choose; and that the fused forms give the bits of the unfused ones.
#include "core/kernels/elementwise.h"
#include "cuda_kernels/row_norm.h"
#include "cuda_kernels/tuning/layer_norm.h"
#include "tests/kernels/layer_norm_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <span>
#include <type_traits>
#include <variant>
#include <vector>

namespace lamina::testing::layer_norm {
namespace {

using kernels::tuning::RowPolicy;
using kernels::tuning::RowProblem;
using kernels::tuning::RowVariant;
using kernels::tuning::TunedRow;

/// Sizes beside the limits of every number of packs, for vectors and single elements.
constexpr Extent kForcedExtents[] = {
    {37, 1},
    {37, 8},
    {37, 17},
    {37, 64},
    {37, 120},
    {21, 129},
    {37, 256},
    {21, 264},
    {21, 768},
    {21, 1000},
    {13, 1024},
    {9, 1032},
    {9, 2048},
    {9, 2056},
    {9, 3000},
    {7, 4096},
    {5, 5000},
    {5, 6144},
    {5, 8192},
    {3, 8200},
    {3, 9001},
    {3, 12288},
    {3, 16384},
    {2, 24576},
    {2, 32768},
    {2, 32776},
    {1, 49152},
    {1, 65536},
    {1, 131072},
    // several rounds of a persistent grid of blocks and of clusters
    {401, 1024},
    {203, 8200},
    {67, 20488}};

constexpr NormDTypes kTypes[] = {{DType::f32, DType::f32},
                                 {DType::bf16, DType::f32},
                                 {DType::f16, DType::f16},
                                 {DType::bf16, DType::bf16, DType::f32}};

/// Adds what the table chooses, each policy once.
void add_tuned(std::vector<RowPolicy>& policies, std::span<const TunedRow> table) {
  for (const TunedRow& row : table) {
    const auto known = std::find(policies.begin(), policies.end(), row.policy);
    if (known == policies.end()) policies.push_back(row.policy);
  }
}

std::vector<RowPolicy> forward_policies() {
  std::vector<RowPolicy> policies;
  for (const int packs : {1, 2, 3, 4, 6, 8}) {
    for (const int threads : {128, 512})
      policies.push_back({.variant = RowVariant::held, .packs = packs, .block_threads = threads});
  }
  policies.push_back(kernels::tuning::kWideHeld);
  for (const int stages : {2, 3}) {
    policies.push_back({.variant = RowVariant::ring,
                        .block_threads = stages == 3 ? 512 : 128 * stages,
                        .stages = stages,
                        .blocks_per_sm = stages - 1});
  }
  for (const int packs : {2, 4, 8}) {
    for (const int cluster : {1, 2, 4, 8}) {
      policies.push_back({.variant = RowVariant::cluster,
                          .packs = packs,
                          .cluster = cluster,
                          .stages = 3,
                          .blocks_per_sm = 1});
    }
  }
  for (const int threads : {256, 512})
    policies.push_back({.variant = RowVariant::streamed, .block_threads = threads});
  add_tuned(policies, kernels::tuning::kForwardSm90);
  return policies;
}

std::vector<RowPolicy> backward_policies() {
  std::vector<RowPolicy> policies;
  for (const int packs : {1, 2, 3, 4, 6, 8}) {
    for (const int stages : {2, 3}) {
      policies.push_back({.variant = RowVariant::ring,
                          .packs = packs,
                          .block_threads = stages == 2 ? 256 : 384,
                          .stages = stages,
                          .blocks_per_sm = stages == 2 ? 2 : 1});
    }
  }
  for (const int packs : {1, 2, 4}) {
    for (const int cluster : {2, 4, 8}) {
      policies.push_back({.variant = RowVariant::cluster,
                          .packs = packs,
                          .cluster = cluster,
                          .stages = cluster == 2 && packs < 4 ? 4 : 3,
                          .blocks_per_sm = 1});
    }
  }
  for (const int threads : {256, 512}) {
    policies.push_back(
        {.variant = RowVariant::streamed, .block_threads = threads, .blocks_per_sm = 1});
  }
  add_tuned(policies, kernels::tuning::kBackwardSm90);
  return policies;
}

std::string text_of(const RowPolicy& policy) {
  constexpr const char* kNames[] = {"held", "ring", "cluster", "streamed"};
  return cat(kNames[static_cast<std::size_t>(policy.variant)], " packs ", policy.packs, " threads ",
             policy.block_threads, " cluster ", policy.cluster, " stages ", policy.stages,
             " blocks ", policy.blocks_per_sm);
}

CudaStream cuda_stream() {
  return std::get<CudaStream>(current_stream(kCuda));
}

template <class Args>
bool is_legal(const RowPolicy& policy, const Args& args) {
  const RowProblem problem = row_problem(args, cuda_stream());
  if constexpr (requires { args.workspace; }) {
    return is_legal_backward(policy, problem);
  } else {
    return is_legal_forward(policy, problem);
  }
}

/// run_with() and its workspace.
template <class Args>
void run_forced(const RowPolicy& policy, Args args) {
  const CudaStream stream = cuda_stream();
  const CurrentDevice device{Stream(stream)};
  Tensor workspace;
  if constexpr (requires { args.workspace; }) {
    workspace = empty({workspace_bytes(policy, args, stream)}, DType::u8, kCuda);
    args.workspace = flat(workspace);
  }
  run_with(policy, args, stream);
  check_launch(stream, args.name());
}

/// Poisons outputs, so that each run has to write them.
void poison(std::initializer_list<const CudaTensor*> outputs) {
  for (const CudaTensor* output : outputs) {
    if (*output) output->tensor().fill(std::numeric_limits<double>::quiet_NaN());
  }
}

/// Calls check() for every one of `policies` that is legal for `args`.
template <class Args, class Check>
void for_each_legal(const std::vector<RowPolicy>& policies, const Args& args, const Check& check) {
  for (const RowPolicy& policy : policies) {
    if (!is_legal(policy, args)) continue;
    SCOPED_TRACE(text_of(policy));
    check(policy);
    if (::testing::Test::HasFailure()) return;
  }
}

/// A norm and a place in kForcedExtents: a test of its own for each, so that compute-sanitizer's
/// slow runs can be spread over processes.
struct NormAndSize {
  Norm norm;
  std::size_t size;
};

std::vector<NormAndSize> norms_and_sizes() {
  std::vector<NormAndSize> all;
  for (const Norm norm : kNorms) {
    for (std::size_t size = 0; size < std::size(kForcedExtents); ++size)
      all.push_back({norm, size});
  }
  return all;
}

using CudaRowPolicySizes = CudaTestWith<NormAndSize>;

INSTANTIATE_TEST_SUITE_P(Cuda, CudaRowPolicySizes, ::testing::ValuesIn(norms_and_sizes()),
                         [](const ::testing::TestParamInfo<NormAndSize>& at) {
                           const Extent& extent = kForcedExtents[at.param.size];
                           return cat(at.param.norm == Norm::layer ? "layer_" : "rms_", extent.rows,
                                      "x", extent.cols);
                         });

/// With residual, dropout and tail in turn.
NormOperands forward_operands(const NormAndSize& at, std::size_t type) {
  return NormOperands(problem_of_mode(kTypes[type], kForcedExtents[at.size],
                                      at.size * std::size(kTypes) + type, at.norm));
}

BackwardOperands backward_operands(const NormAndSize& at, std::size_t type) {
  const std::size_t mode = at.size * std::size(kTypes) + type + 1;
  const bool has_tail = mode % 2 == 0;
  return BackwardOperands(problem_of_mode(kTypes[type], kForcedExtents[at.size], mode, at.norm),
                          {.dx_drop = has_tail, .column_sum = has_tail});
}

TEST_P(CudaRowPolicySizes, EveryForwardVariantMatchesTheReference) {
  for (std::size_t type = 0; type < std::size(kTypes); ++type) {
    const NormOperands on = forward_operands(GetParam(), type);
    SCOPED_TRACE(cat(on.problem));
    run_on(kCuda, on.args());
    if (on.problem.has_residual) expect_sum(on);
    const Reference want = reference_of(on);
    const std::vector<double> sum = on.sum ? on.sum.values() : std::vector<double>();
    for_each_legal(forward_policies(), on.args(), [&](const RowPolicy& policy) {
      poison({&on.sum, &on.y, &on.mean, &on.rstd});
      run_forced(policy, on.args());
      expect_normalised(on, want);
      if (!on.sum) return;
      EXPECT_EQ(on.sum.values() == sum, true) << "sum";
      EXPECT_TRUE(on.sum.guards_intact()) << "sum";
    });
    if (HasFailure()) return;
  }
}

TEST_P(CudaRowPolicySizes, EveryBackwardVariantMatchesTheReference) {
  for (std::size_t type = 0; type < std::size(kTypes); ++type) {
    const BackwardOperands on = backward_operands(GetParam(), type);
    SCOPED_TRACE(cat(on.problem, on.dx_drop ? " with a tail" : ""));
    const BackwardReference want(on);
    for_each_legal(backward_policies(), on.args(), [&](const RowPolicy& policy) {
      poison({&on.dx, &on.dx_drop, &on.dweight, &on.dbias, &on.column_sum});
      run_forced(policy, on.args());
      expect_gradients(on, want);
    });
    if (HasFailure()) return;
  }
}

void expect_each_once(const std::vector<RowPolicy>& policies, std::span<const TunedRow> table) {
  for (const TunedRow& row : table)
    EXPECT_EQ(std::ranges::count(policies, row.policy), 1) << text_of(row.policy);
}

TEST(RowPolicy, EveryOneOfTheTablesIsForcedOnce) {
  expect_each_once(forward_policies(), kernels::tuning::kForwardSm90);
  expect_each_once(backward_policies(), kernels::tuning::kBackwardSm90);
}

using CudaRowPolicy = CudaTest;

/// Fails for a policy that is legal for none of the problems, which no test above has run.
void expect_each_legal(const std::vector<RowPolicy>& policies,
                       const std::vector<RowProblem>& problems,
                       bool (*is_legal)(const RowPolicy&, const RowProblem&)) {
  for (const RowPolicy& policy : policies) {
    if (policy.variant == RowVariant::cluster && problems.front().sm < 90) continue;
    const auto takes = [&](const RowProblem& problem) { return is_legal(policy, problem); };
    EXPECT_TRUE(std::ranges::any_of(problems, takes)) << text_of(policy);
  }
}

TEST_F(CudaRowPolicy, EveryVariantIsLegalForOneOfTheSizes) {
  std::vector<RowProblem> forward, backward;
  for (std::size_t size = 0; size < std::size(kForcedExtents); ++size) {
    for (std::size_t type = 0; type < std::size(kTypes); ++type) {
      const NormAndSize at{Norm::layer, size};  // RMSNorm has the same policies
      forward.push_back(row_problem(forward_operands(at, type).args(), cuda_stream()));
      backward.push_back(row_problem(backward_operands(at, type).args(), cuda_stream()));
    }
  }
  expect_each_legal(forward_policies(), forward, kernels::tuning::is_legal_forward);
  expect_each_legal(backward_policies(), backward, kernels::tuning::is_legal_backward);
}

TEST_F(CudaRowPolicy, FusedAddGivesTheBitsOfAddThenNorm) {
  const std::vector<RowPolicy> policies = forward_policies();
  for (const Extent& extent : kNormVariants) {
    for (const NormDTypes& dtypes : kTypes) {
      for (const Norm norm : kNorms) {
        const NormOperands fused(problem_of_mode(dtypes, extent, 1, norm));
        SCOPED_TRACE(cat(fused.problem));
        NormOperands plain(problem_of_mode(dtypes, extent, 0, norm));
        for_each_legal(policies, fused.args(), [&](const RowPolicy& policy) {
          poison({&fused.sum, &fused.y, &plain.y});
          run_forced(policy, fused.args());
          LayerNorm unfused = fused.args();
          unfused.x = unfused.sum;
          unfused.residual = unfused.sum = {};
          unfused.y = rows(plain.y.tensor());
          if (!is_legal(policy, unfused)) return;
          run_forced(policy, unfused);
          EXPECT_EQ(plain.y.values() == fused.y.values(), true) << "y";
        });
        if (dtypes.stream != dtypes.rows) continue;
        const CudaTensor sum = CudaTensor::poisoned(fused.problem.shape(), dtypes.rows);
        run_on(kCuda, kernels::Add{.a = rows(fused.x.tensor()),
                                   .b = rows(fused.residual.tensor()),
                                   .y = rows(sum.tensor())});
        EXPECT_EQ(sum.values() == fused.sum.values(), true) << "sum";
      }
    }
  }
}

TEST_F(CudaRowPolicy, BackwardWithADsumOfZerosGivesTheBitsOfOneWithout) {
  const std::vector<RowPolicy> policies = backward_policies();
  for (const Extent& extent : kNormVariants) {
    for (const NormDTypes& dtypes : kTypes) {
      for (const Norm norm : kNorms) {
        const BackwardOperands on(problem_of_mode(dtypes, extent, 1, norm));
        SCOPED_TRACE(cat(on.problem));
        on.dsum.tensor().fill(0.0);
        const auto outputs = [&] {
          return std::vector<std::vector<double>>{
              on.dx.values(), on.dx_drop.values(), on.dweight.values(),
              on.dbias ? on.dbias.values() : std::vector<double>(), on.column_sum.values()};
        };
        for_each_legal(policies, on.args(), [&](const RowPolicy& policy) {
          LayerNormBackward without = on.args();
          without.dsum = {};
          if (!is_legal(policy, without)) return;
          run_forced(policy, on.args());
          const std::vector<std::vector<double>> with_zeros = outputs();
          poison({&on.dx, &on.dx_drop, &on.dweight, &on.dbias, &on.column_sum});
          run_forced(policy, without);
          EXPECT_EQ(outputs() == with_zeros, true);
        });
      }
    }
  }
}

TEST_F(CudaRowPolicy, ThrowsForAPolicyThatIsNotLegal) {
  const NormOperands on({.dtypes = kTypes[1], .extent = {3, 20000}});
  const RowPolicy too_small{.variant = RowVariant::held, .packs = 1, .block_threads = 128};
  ASSERT_FALSE(is_legal(too_small, on.args()));
  EXPECT_THROW(run_forced(too_small, on.args()), Error);
}

}  // namespace
}  // namespace lamina::testing::layer_norm
