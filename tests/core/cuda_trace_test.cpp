// SPDX-License-Identifier: MIT
// Traces of a GPU through CUPTI. Skipped where another tool watches the process already.
#include "core/error.h"
#include "core/kernels/elementwise.h"
#include "core/launch.h"
#include "core/step_graph.h"
#include "core/tensor.h"
#include "core/trace_recorder.h"
#include "tests/support/chrome_trace.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace lamina {
namespace {

using testing::ChromeTrace;
using testing::kCuda;
using CudaTrace = testing::CudaTest;

constexpr int kSteps = 3;

void add(const Tensor& from, const Tensor& to) {
  launch(stream_of(to),
         kernels::Scale{
             .x = rows(from), .y = rows(to), .factor = 0.5, .write = GradWrite::accumulate});
}

/// 5 kernels, one in each direction of two layers and one outside of all.
struct Work {
  void operator()() const {
    for (const char* layer : {"blocks.0", "blocks.1"}) {
      {
        const ProfileScope scope(layer);
        add(x, y);
      }
      const ProfileScope scope(layer, Direction::backward);
      add(y, x);
    }
    x.fill(1.0);
  }

  Tensor x = full({1, 1 << 20}, 1.0, DType::f32, kCuda);
  Tensor y = full({1, 1 << 20}, 1.0, DType::f32, kCuda);
};

Trace record(TraceRecorder& recorder, StepGraph& graph, const Work& work, bool eager) {
  for (int i = 0; i < 3; ++i)
    graph.run([&] { work(); });  // two eager ones and the capture
  recorder.start();
  for (int step = 1; step <= kSteps; ++step) {
    recorder.begin_step(step);
    eager ? graph.run_eagerly([&] { work(); }) : graph.run([&] { work(); });
  }
  return recorder.stop();
}

TEST_F(CudaTrace, FindsTheLayerOfEveryKernelOfAReplay) {
  TraceRecorder recorder(kCuda);
  StepGraph graph(kCuda);
  const Work work;
  for (const bool eager : {false, true}) {
    const Trace trace = record(recorder, graph, work, eager);
    ASSERT_EQ(graph.nodes(), 5U);
    ASSERT_EQ(trace.kernels.size(), kSteps * graph.nodes()) << "eager " << eager;
    std::map<std::string, int> count;
    for (const TraceKernel& kernel : trace.kernels) {
      ++count[std::string(kernel.layer) +
              (kernel.direction == Direction::backward ? " backward" : "")];
      EXPECT_GT(kernel.end_ns, kernel.start_ns);
      EXPECT_EQ(kernel.op, kernel.layer.empty() ? "fill" : "scale");
      EXPECT_GT(kernel.grid[0], 0);
      EXPECT_GE(kernel.step, 1);
      EXPECT_LE(kernel.step, kSteps);
    }
    const std::map<std::string, int> expected = {{"blocks.0", kSteps},
                                                 {"blocks.0 backward", kSteps},
                                                 {"blocks.1", kSteps},
                                                 {"blocks.1 backward", kSteps},
                                                 {"", kSteps}};
    EXPECT_EQ(count, expected) << "eager " << eager;
    EXPECT_EQ(trace.device, device_info(kCuda).name);
  }
}

TEST_F(CudaTrace, LinksLaunchesToKernels) {
  TraceRecorder recorder(kCuda);
  StepGraph graph(kCuda);
  const Work work;
  for (const bool eager : {false, true}) {
    const Trace trace = record(recorder, graph, work, eager);
    std::map<std::uint64_t, std::string> calls;
    for (const TraceCall& call : trace.calls)
      calls[call.id] = call.name;
    for (const TraceKernel& kernel : trace.kernels) {
      ASSERT_EQ(calls.count(kernel.call), 1U);
      EXPECT_THAT(calls[kernel.call], ::testing::HasSubstr(eager ? "Launch" : "GraphLaunch"));
    }
    std::ostringstream text;
    write_chrome_trace(trace, text);
    const ChromeTrace json(text.str());
    EXPECT_EQ(json.arrows(), eager ? 5U * kSteps : std::size_t{kSteps});
    std::int64_t in_file = 0, in_trace = 0;
    for (const auto& slice : json.slices("kernel"))
      in_file += ChromeTrace::ns(slice["dur"]);
    for (const LayerTime& time : layer_times(trace))
      in_trace += time.ns;
    EXPECT_EQ(in_file, in_trace);
  }
}

TEST_F(CudaTrace, AgreesWithTheHostsClock) {
  TraceRecorder recorder(kCuda);
  StepGraph graph(kCuda);
  const Work work;
  const auto now = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  const std::int64_t before = now();
  const Trace trace = record(recorder, graph, work, false);
  const std::int64_t after = now();
  constexpr std::int64_t kSlack = 100'000;  // ns, of CUPTI's conversion
  for (const TraceKernel& kernel : trace.kernels) {
    EXPECT_GT(kernel.start_ns, before - kSlack);
    EXPECT_LT(kernel.end_ns, after + kSlack);
  }
}

TEST_F(CudaTrace, RecordsOnlyBetweenStartAndStop) {
  TraceRecorder recorder(kCuda);
  const Tensor x = full({1024}, 1.0, DType::f32, kCuda);
  recorder.start();
  EXPECT_TRUE(recorder.stop().kernels.empty());
  x.fill(2.0);
  recorder.start();
  x.fill(3.0);
  EXPECT_EQ(recorder.stop().kernels.size(), 1U);
  EXPECT_THROW(TraceRecorder second(kCuda), Error);  // one at a time
}

}  // namespace
}  // namespace lamina
