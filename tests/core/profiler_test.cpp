// SPDX-License-Identifier: MIT
// KernelTimes and Profiler under a clock that only the test moves, and on CUDA.
#include "core/profiler.h"

#include "core/ceilings.h"
#include "core/error.h"
#include "core/launch.h"
#include "core/step_graph.h"
#include "core/tensor.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

namespace lamina {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// A clock that stands still but for pass().
class FakeClock {
 public:
  void pass(int ms) { now_ += std::chrono::milliseconds(ms); }

  HostClock clock() const {
    return [this] { return now_; };
  }

  /// A kernel that takes `ms`.
  void kernel(const char* name, int ms, const Cost& cost = {}) {
    const KernelScope scope(name, cost, CpuStream{});
    pass(ms);
  }

 private:
  std::chrono::nanoseconds now_{};
};

const ProfileRow* find(const std::vector<ProfileRow>& rows, const std::string& layer,
                       Direction direction, const std::string& kernel) {
  for (const ProfileRow& row : rows) {
    if (row.layer == layer && row.direction == direction && row.kernel == kernel) return &row;
  }
  return nullptr;
}

TEST(KernelTimes, AddsUpByLayerDirectionAndKernel) {
  FakeClock clock;
  KernelTimes times(kCpu, clock.clock());
  times.begin();
  {
    const SinkScope hears(times);
    const ProfileScope outer("blocks.0");
    clock.kernel("fill", 1, {.bytes = 10});
    {
      const ProfileScope inner("blocks.0.mlp");
      clock.kernel("gemm", 5, {.bytes = 100, .flops = 1000});
      clock.pass(100);  // belongs to no kernel
      clock.kernel("gemm", 2, {.bytes = 100, .flops = 1000});
      const ProfileScope backward("blocks.0.mlp", Direction::backward);
      clock.kernel("gemm", 7, {.bytes = 300, .flops = 4000});
    }
    clock.kernel("fill", 3, {.bytes = 20});
  }
  clock.kernel("fill", 50);  // not heard any more
  const std::vector<ProfileRow> rows = times.rows();
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].layer, "blocks.0");
  EXPECT_EQ(rows[0].ms, 4.0);
  EXPECT_EQ(rows[0].calls, 2.0);
  EXPECT_EQ(rows[0].bytes, 30.0);
  EXPECT_EQ(rows[1].layer, "blocks.0.mlp");
  EXPECT_EQ(rows[1].ms, 7.0);
  EXPECT_EQ(rows[1].flops, 2000.0);
  EXPECT_EQ(rows[2].direction, Direction::backward);
  EXPECT_EQ(rows[2].ms, 7.0);
}

TEST(KernelTimes, AKernelInsideAnotherCountsForItselfOnly) {
  FakeClock clock;
  KernelTimes times(kCpu, clock.clock());
  times.begin();
  const SinkScope hears(times);
  {
    const KernelScope outer("outer", {}, CpuStream{});
    clock.pass(1);
    clock.kernel("inner", 10);
    clock.pass(2);
    clock.kernel("inner", 20);
    clock.pass(4);
  }
  const std::vector<ProfileRow> rows = times.rows();
  EXPECT_EQ(find(rows, "", Direction::forward, "outer")->ms, 7.0);
  EXPECT_EQ(find(rows, "", Direction::forward, "inner")->ms, 30.0);
}

TEST(KernelTimes, CountsAKernelThatThrowsUpToThere) {
  FakeClock clock;
  KernelTimes times(kCpu, clock.clock());
  times.begin();
  const SinkScope hears(times);
  const auto fail = [&] {
    const ProfileScope scope("bad");
    const KernelScope outer("outer", {}, CpuStream{});
    const KernelScope kernel("gemm", {}, CpuStream{});
    clock.pass(3);
    throw Error("gemm: cannot go on");
  };
  EXPECT_THROW(fail(), Error);
  clock.pass(40);
  clock.kernel("fill", 2);
  const std::vector<ProfileRow> rows = times.rows();
  EXPECT_EQ(find(rows, "bad", Direction::forward, "gemm")->ms, 3.0);
  EXPECT_EQ(find(rows, "bad", Direction::forward, "outer")->ms, 0.0);
  EXPECT_EQ(find(rows, "", Direction::forward, "fill")->ms, 2.0);
}

TEST(KernelTimes, BeginForgetsTheStepBefore) {
  FakeClock clock;
  KernelTimes times(kCpu, clock.clock());
  times.begin();
  const SinkScope hears(times);
  clock.kernel("fill", 2);
  {
    const KernelScope across("gemm", {}, CpuStream{});
    times.begin();
  }
  EXPECT_TRUE(times.rows().empty());
  clock.kernel("fill", 5);
  EXPECT_EQ(times.rows()[0].ms, 5.0);
}

TEST(KernelTimes, HearsItsOwnDeviceOnly) {
  KernelTimes times({DeviceKind::cuda, 0});
  const SinkScope hears(times);
  FakeClock().kernel("fill", 1);
  EXPECT_TRUE(times.rows().empty());
}

TEST(KernelTimes, SaysWhatLayersKeepForTheBackwardPassAndThePeak) {
  constexpr std::int64_t kBytes = 1 << 20;
  const auto floats = [](std::int64_t bytes) { return zeros({bytes / 4}); };
  std::vector<Tensor> weights;
  {
    const ProfileScope scope("a");
    weights.push_back(floats(16 * kBytes));  // before the step
  }
  KernelTimes times(kCpu);
  times.begin(1000 * kBytes);
  const std::size_t before = current_allocator(kCpu).stats().live;
  {
    const SinkScope hears(times);
    std::vector<Tensor> kept;
    {
      const ProfileScope scope("a");
      kept.push_back(floats(2 * kBytes));
      (void)floats(8 * kBytes);
    }
    {
      const ProfileScope scope("b");
      kept.push_back(floats(3 * kBytes));
    }
    const ProfileScope scope("b", Direction::backward);
    kept.back().fill(1.0);
    (void)floats(1 * kBytes);
  }
  const std::vector<ProfileRow> rows = times.rows();
  EXPECT_EQ(find(rows, "a", Direction::forward, "fill")->live_bytes, 2.0 * kBytes);
  EXPECT_EQ(find(rows, "b", Direction::forward, "fill")->live_bytes, 3.0 * kBytes);
  EXPECT_EQ(find(rows, "b", Direction::backward, "fill")->live_bytes, 0.0);
  EXPECT_EQ(times.peak_live(), before + (1000 + 2 + 8) * kBytes);
}

/// A step of 10 ms, 6 of them in kernels, or what the profile makes of it.
struct FakeStep {
  FakeClock clock;
  int steps = 0;

  void operator()() {
    ++steps;
    const ProfileScope scope("layer");
    clock.pass(4);
    clock.kernel("gemm", 6, {.bytes = 1'000'000, .flops = 60'000'000});
  }
};

TEST(Profiler, TimesEveryNthStepAndComparesItWithTheOthers) {
  FakeStep step;
  std::vector<Profile> samples;
  Profiler profiler(kCpu, {.every = 4,
                           .ceilings = {.copy_gb_s = 1.0, .matmul_tflop_s = 0.02, .dtype = "f32"},
                           .on_sample = [&](const Profile& sample) { samples.push_back(sample); },
                           .clock = step.clock.clock()});
  for (int i = 1; i <= 9; ++i) {
    profiler.step([&] {
      step();
      if (i == 3) step.clock.pass(500);  // a median does not see it
      if (i % 4 == 0) step.clock.pass(1);
    });
  }
  EXPECT_EQ(step.steps, 9);
  ASSERT_EQ(samples.size(), 2U);
  EXPECT_EQ(samples[0].step, 4);
  EXPECT_EQ(samples[1].step, 8);
  for (const Profile& sample : samples) {
    EXPECT_DOUBLE_EQ(sample.step_ms, 10.0);
    EXPECT_DOUBLE_EQ(sample.profiled_ms, 11.0);
    EXPECT_DOUBLE_EQ(sample.coverage(), 0.6);
    EXPECT_NEAR(sample.overhead(), 0.1, 1e-12);
    ASSERT_EQ(sample.rows.size(), 1U);
    EXPECT_EQ(sample.rows[0].ms, 6.0);
  }
  EXPECT_EQ(profiler.mean().samples, 2);
  // 60 MFLOP in 6 ms of 20 GFLOP/s.
  EXPECT_THAT(profiler.table(), ::testing::ContainsRegex("layer +6.000 +0.000 +60.0% +10.0 "
                                                         "GFLOP/s +50% +1\n"));
}

TEST(Profiler, MayBeLeftOutOfSomeSteps) {
  FakeStep step;
  Profiler profiler(kCpu, {.every = 2, .clock = step.clock.clock()});
  KernelTimes other(kCpu, step.clock.clock());
  other.begin();
  const SinkScope hears(other);
  profiler.step([&] { step(); });
  step();  // off
  profiler.step([&] { step(); });
  step();
  const std::vector<ProfileRow> rows = other.rows();
  EXPECT_EQ(rows[0].calls, 3.0);  // all but the sample: the sink is as it was before
  EXPECT_EQ(profiler.mean().samples, 1);
  EXPECT_DOUBLE_EQ(profiler.mean().step_ms, 10.0);
}

TEST(Profiler, AStepThatFailsDoesNotCount) {
  FakeStep step;
  Profiler profiler(kCpu, {.every = 2, .clock = step.clock.clock()});
  const auto fail = [&] {
    step();
    throw Error("step: cannot go on");
  };
  profiler.step([&] { step(); });
  EXPECT_THAT([&] { profiler.step(fail); }, ThrowsMessage<Error>("step: cannot go on"));
  EXPECT_EQ(exchange_sink(nullptr), nullptr);
  EXPECT_EQ(profiler.mean().samples, 0);
  profiler.step([&] { step(); });  // is the second step now
  ASSERT_EQ(profiler.mean().samples, 1);
  EXPECT_EQ(profiler.mean().rows[0].calls, 1.0);
}

TEST(Profiler, HasNothingToCompareWithWhenEveryStepIsASample) {
  FakeStep step;
  Profiler profiler(kCpu, {.every = 1, .clock = step.clock.clock()});
  profiler.step([&] { step(); });
  EXPECT_TRUE(std::isnan(profiler.mean().step_ms));
  EXPECT_THAT(profiler.table(), HasSubstr("not measured without"));
}

TEST(Profiler, SaysThatThereIsNoSample) {
  Profiler profiler(kCpu, {.every = 5});
  profiler.step([] {});
  EXPECT_EQ(profiler.table(), "profile: no sample in 1 steps, one every 5\n");
  EXPECT_THAT([] { Profiler(kCpu, {.every = 0}); },
              ThrowsMessage<Error>(HasSubstr("profiler: every is 0, expected at least 1")));
}

TEST(Ceilings, AreWhatTheCpuCanDo) {
  const Ceilings ceilings = measure_ceilings(kCpu, DType::f32);
  EXPECT_EQ(ceilings.dtype, "f32");
  EXPECT_GT(ceilings.copy_gb_s, 0.1);
  EXPECT_LT(ceilings.copy_gb_s, 2000.0);
  EXPECT_GT(ceilings.matmul_tflop_s, 1e-4);
  EXPECT_LT(ceilings.matmul_tflop_s, 50.0);
}

using CudaProfiler = testing::CudaTest;
using testing::kCuda;

/// 20 fills of 256 MiB: some 70 us each on an H200.
struct Fills {
  Tensor x = zeros({64, 1 << 20}, DType::f32, kCuda);

  void operator()() const {
    const ProfileScope scope("fills");
    for (int i = 0; i < 20; ++i)
      x.fill(i);
  }
};

void expect_sane(const Profile& profile) {
  ASSERT_EQ(profile.rows.size(), 1U);
  EXPECT_EQ(profile.rows[0].layer, "fills");
  EXPECT_EQ(profile.rows[0].calls, 20.0);
  EXPECT_GT(profile.coverage(), 0.9);
  EXPECT_LT(profile.coverage(), 1.1);
  EXPECT_LT(profile.overhead(), 0.1);
  EXPECT_GE(profile.peak_bytes, 256.0 * (1 << 20));
}

TEST_F(CudaProfiler, CoversACapturedStep) {
  const Fills fills;
  Profiler profiler(kCuda, {.every = 10});
  StepGraph graph(kCuda);
  for (int i = 0; i < 40; ++i)
    profiler.step(graph, [&] { fills(); });
  EXPECT_GT(graph.nodes(), 0U);
  EXPECT_EQ(profiler.mean().samples, 4);
  expect_sane(profiler.mean());
}

TEST_F(CudaProfiler, CoversAnEagerStep) {
  const Fills fills;
  Profiler profiler(kCuda, {.every = 10});
  for (int i = 0; i < 40; ++i)
    profiler.step([&] { fills(); });
  EXPECT_EQ(profiler.mean().samples, 4);
  expect_sane(profiler.mean());
}

TEST_F(CudaProfiler, MeasuresCeilings) {
  const Ceilings ceilings = measure_ceilings(kCuda, DType::bf16);
  EXPECT_EQ(ceilings.dtype, "bf16");
  EXPECT_GT(ceilings.copy_gb_s, 100.0);
  EXPECT_GT(ceilings.matmul_tflop_s, 10.0);
  EXPECT_LT(measure_ceilings(kCuda, DType::f32).matmul_tflop_s, ceilings.matmul_tflop_s);
}

}  // namespace
}  // namespace lamina
