// SPDX-License-Identifier: MIT
// How products choose an algorithm: every one that may be chosen is right, timing leaves no trace,
// and a plan that was stored is the one that runs.
#include "cuda_kernels/gemm_plans.h"

#include "core/cuda/runtime.h"
#include "core/kernels/gemm_plans.h"
#include "tests/kernels/gemm_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lamina::testing {
namespace {

using kernels::GemmPlans;
using ::testing::HasSubstr;
using ::testing::Not;

CudaStream cuda_stream() {
  return std::get<CudaStream>(current_stream(kCuda));
}

/// The operands of a case with a workspace.
struct Call {
  Fixture device;
  Tensor workspace;

  explicit Call(const GemmCase& c)
      : device(c), workspace(empty({std::int64_t{32} << 20}, DType::u8, kCuda)) {}

  kernels::Gemm args(const GemmCase& c) const {
    kernels::Gemm args = make_args(c, device.on_device());
    args.workspace = flat(workspace);
    return args;
  }
};

std::vector<double> result_of(GemmPlans& plans, const GemmCase& c) {
  const Call call(c);
  plans.run(call.args(c), cuda_stream());
  return call.device.d.values();
}

/// A product that is large enough to be timed, as fc1 of a transformer.
constexpr GemmCase kLarge{.m = 2048,
                          .n = 1024,
                          .k = 512,
                          .transpose_b = true,
                          .bias = Bias::same_dtype,
                          .activation = ActivationKind::gelu_tanh,
                          .keep_pre_activation = true};

constexpr GemmCase kSmall{.m = 64, .n = 64, .k = 64};

class CudaGemmWays : public CudaTestWith<GemmCase> {};

TEST_P(CudaGemmWays, MatchTheCpuAndGiveTheSameBitsEachTime) {
  const GemmCase& c = GetParam();
  const Expectation expectation(c, Fixture(c));
  const GemmPlans plans(0);
  const std::vector<kernels::GemmWay> ways = plans.ways(Call(c).args(c), 24);
  EXPECT_FALSE(ways.empty());
  for (const kernels::GemmWay& way : ways) {
    SCOPED_TRACE(
        cat(name_of(way.fusion), " fused, ", way.rank, ": ", kernels::text_of(way.algorithm)));
    const Call first(c);
    const Call second(c);
    for (const Call* call : {&first, &second})
      plans.run(way, call->args(c), cuda_stream());
    expectation.check(c, first.device);
    EXPECT_EQ(first.device.d.values(), second.device.d.values());
  }
}

std::vector<GemmCase> way_cases() {
  std::vector<GemmCase> cases;
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const GemmCase like{.m = 128, .n = 256, .k = 320, .dtype = dtype, .d_dtype = dtype};
    for (const Bias bias : {Bias::none, Bias::same_dtype}) {
      for (const bool keep : {false, true}) {
        GemmCase c = like;
        c.transpose_b = true;
        c.bias = bias;
        c.activation = ActivationKind::gelu_tanh;
        c.keep_pre_activation = keep;
        cases.push_back(c);
      }
    }
    GemmCase c = like;
    c.transpose_b = true;
    c.bias = Bias::same_dtype;
    cases.push_back(c);
    c = like;
    c.k = 4096;  // worth a split of k
    c.transpose_a = true;
    c.d_dtype = DType::f32;
    cases.push_back(c);
    c.write = GradWrite::accumulate;
    cases.push_back(c);
    c.d_dtype = dtype;
    cases.push_back(c);
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Epilogues, CudaGemmWays, ::testing::ValuesIn(way_cases()), NameOfCase());

class CudaGemmPlans : public CudaTest {};

TEST_F(CudaGemmPlans, TimedProductIsRight) {
  for (const GradWrite write : {GradWrite::overwrite, GradWrite::accumulate}) {
    GemmCase c = kLarge;
    if (write == GradWrite::accumulate) {
      c = {.m = 1024, .n = 512, .k = 1024, .d_dtype = DType::f32, .transpose_a = true};
    }
    c.write = write;
    const Call call(c);
    const Expectation expectation(c, call.device);
    GemmPlans plans(0);
    {
      const TimeGemms timed;
      plans.run(call.args(c), cuda_stream());
    }
    EXPECT_THAT(plans.report(), HasSubstr("timed"));
    expectation.check(c, call.device);
  }
}

TEST_F(CudaGemmPlans, TimedPlanStays) {
  GemmPlans plans(0);
  const auto timed = [&] {
    const TimeGemms scope;
    return result_of(plans, kLarge);
  }();
  const std::string report = plans.report();
  EXPECT_EQ(result_of(plans, kLarge), timed);
  EXPECT_EQ(plans.report(), report);
}

TEST_F(CudaGemmPlans, PlanThatWasMadeWithoutTimingIsMadeAgainByATimeGemms) {
  GemmPlans plans(0);
  (void)result_of(plans, kLarge);
  EXPECT_THAT(plans.report(), HasSubstr("untimed"));
  EXPECT_EQ(plans.stored(), "");
  const TimeGemms timed;
  (void)result_of(plans, kLarge);
  EXPECT_THAT(plans.report(), Not(HasSubstr("untimed")));
}

TEST_F(CudaGemmPlans, StoredPlanGivesTheSameBitsElsewhere) {
  GemmPlans plans(0);
  const auto timed = [&] {
    const TimeGemms scope;
    return result_of(plans, kLarge);
  }();
  const std::string stored = plans.stored();
  EXPECT_THAT(stored, HasSubstr("m 2048, n 1024, k 512"));
  GemmPlans others(0);
  others.load(stored);
  EXPECT_EQ(others.stored(), stored);
  const TimeGemms scope;
  EXPECT_EQ(result_of(others, kLarge), timed);
  EXPECT_THAT(others.report(), HasSubstr("loaded"));
}

TEST_F(CudaGemmPlans, LinesOfOtherMachinesAreKept) {
  GemmPlans plans(0);
  {
    const TimeGemms scope;
    (void)result_of(plans, kLarge);
  }
  const std::string other = "Another GPU" + plans.stored().substr(plans.stored().find('\t'));
  GemmPlans others(0);
  others.load(other);
  EXPECT_EQ(others.stored(), other);
  (void)result_of(others, kLarge);
  EXPECT_THAT(others.report(), HasSubstr("untimed"));
}

TEST_F(CudaGemmPlans, PlanThatDoesNotFitItsProblemIsRefused) {
  GemmPlans plans(0);
  GemmCase plain = kLarge;
  plain.activation.reset();
  plain.keep_pre_activation = false;
  {
    const TimeGemms scope;
    (void)result_of(plans, plain);
  }
  std::string line = plans.stored();
  const std::size_t choice = line.rfind('\t') + 1;
  line.replace(choice, line.find(' ', choice) - choice, "gelu");
  GemmPlans others(0);
  others.load(line);
  EXPECT_THROW((void)result_of(others, plain), Error);
}

TEST_F(CudaGemmPlans, LineOfAnotherFormIsRefused) {
  GemmPlans plans(0);
  const std::string hex(2 * sizeof(cublasLtMatmulAlgo_t), '0');
  const std::string no_workspace = "a\tb\tc\tnone 0 1 1 " + hex;
  const std::string negative = "a\tb\tc\tnone 0 1 1 -1 " + hex;
  for (const std::string& line :
       {std::string("x"), std::string("a\tb\tnone 0 1 1 0 ") + hex,
        std::string("a\tb\tc\tnone 0 1 1 0 00"), no_workspace, negative}) {
    EXPECT_THROW(plans.load(line), Error) << line;
  }
  plans.load("a\tb\tc\tnone 0 1 1 0 " + hex);
  EXPECT_NE(plans.stored(), "");
}

TEST_F(CudaGemmPlans, LinesOfAnotherFormLeaveNothing) {
  GemmPlans plans(0);
  EXPECT_THROW(plans.load("x"), Error);
  EXPECT_EQ(plans.stored(), "");
}

TEST_F(CudaGemmPlans, SmallProductsAreNotTimed) {
  GemmPlans plans(0);
  const TimeGemms timed;
  (void)result_of(plans, kSmall);
  EXPECT_THAT(plans.report(), HasSubstr("small"));
  EXPECT_EQ(plans.stored(), "");
}

TEST_F(CudaGemmPlans, TimingGivesItsMemoryBack) {
  const Call call(kLarge);
  const auto free_after = [&](int timings) {
    const TimeGemms timed;
    for (int i = 0; i < timings; ++i) {
      GemmPlans plans(0);
      plans.run(call.args(kLarge), cuda_stream());
    }
    synchronize(kCuda);
    return static_cast<std::int64_t>(cuda::memory(0).info().free);
  };
  constexpr std::int64_t kOperands = 40 << 20;  // at least, with the workspace
  const std::int64_t before = free_after(1);    // cuBLASLt has loaded its kernels
  EXPECT_GT(free_after(8), before - 4 * kOperands);
}

TEST_F(CudaGemmPlans, AProductThatDoesNotSplitIsOneNodeOfAGraph) {
  GemmCase c{.m = 4096, .n = 3072, .k = 256, .transpose_b = true, .bias = Bias::same_dtype};
  c.dtype = c.d_dtype = DType::bf16;
  const Call call(c);
  const GemmPlans plans(0);
  const std::vector<kernels::GemmWay> ways = plans.ways(call.args(c), 4);
  ASSERT_FALSE(ways.empty());
  const kernels::GemmWay& way = ways.front();
  ASSERT_EQ(way.algorithm.workspace, 0) << kernels::text_of(way.algorithm);
  plans.run(way, call.args(c), cuda_stream());  // loads the kernel
  synchronize(kCuda);
  cuda::begin_capture(cuda_stream());
  plans.run(way, call.args(c), cuda_stream());
  const cuda::CapturedGraph graph = cuda::end_capture(cuda_stream());
  EXPECT_EQ(graph.nodes, way.fusion == kernels::GemmFusion::bias ? 1U : 2U);  // our own pass
  cuda::destroy_executable(graph.executable, cuda_stream());
  cuda::destroy_graph(graph.graph);
}

TEST_F(CudaGemmPlans, NothingIsTimedDuringACapture) {
  GemmPlans plans(0);
  const Call call(kLarge);
  plans.run(call.args(kLarge), cuda_stream());  // loads the kernels
  GemmCase other = kLarge;
  other.m = 2056;
  const Call captured(other);
  synchronize(kCuda);
  const TimeGemms timed;
  cuda::begin_capture(cuda_stream());
  plans.run(captured.args(other), cuda_stream());
  const cuda::CapturedGraph graph = cuda::end_capture(cuda_stream());
  EXPECT_GT(graph.nodes, 0U);
  cuda::destroy_executable(graph.executable, cuda_stream());
  cuda::destroy_graph(graph.graph);
  EXPECT_EQ(plans.stored(), "");
}

}  // namespace
}  // namespace lamina::testing
