// SPDX-License-Identifier: MIT
// Traces: the file's rules on made-up records, and the recorder on the CPU.
#include "core/trace.h"

#include "core/error.h"
#include "core/launch.h"
#include "core/tensor.h"
#include "core/trace_recorder.h"
#include "tests/support/chrome_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace lamina {
namespace {

using testing::ChromeTrace;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using ::testing::UnorderedElementsAre;

std::string text_of(const Trace& trace) {
  std::ostringstream out;
  write_chrome_trace(trace, out);
  return out.str();
}

/// A kernel of `us` microseconds from `at` on.
TraceKernel kernel(std::string_view layer, Direction direction, int step, std::int64_t at,
                   std::int64_t us, std::uint64_t call = 0, std::uint32_t stream = 7) {
  return {.name = "k",
          .op = "op",
          .layer = layer,
          .direction = direction,
          .step = step,
          .stream = stream,
          .start_ns = 1000 * at,
          .end_ns = 1000 * (at + us),
          .call = call,
          .grid = {1, 1, 1},
          .block = {32, 1, 1}};
}

std::vector<std::string> names(const std::vector<ChromeTrace::Json>& slices) {
  std::vector<std::string> all;
  for (const auto& slice : slices)
    all.push_back(slice["name"]);
  return all;
}

constexpr Direction kForward = Direction::forward, kBackward = Direction::backward;

TEST(ChromeTrace, NestsLayersInsideSteps) {
  Trace trace{.device = "gpu"};
  trace.kernels = {
      kernel("embed", kForward, 1, 100, 5), kernel("blocks.0.mlp.up", kForward, 1, 110, 10),
      kernel("blocks.0.mlp.down", kForward, 1, 120, 10),
      kernel("blocks.0.mlp.down", kBackward, 1, 140, 10), kernel("", kForward, 2, 200, 1)};
  const ChromeTrace json(text_of(trace));
  EXPECT_THAT(names(json.slices("step")), ElementsAre("step 1", "step 2"));
  EXPECT_THAT(names(json.slices("layer")),
              ElementsAre("embed", "blocks.0", "mlp", "up", "down", "blocks.0 backward", "mlp",
                          "down", "(no layer)"));
  const auto block = json.slices("layer")[1];
  EXPECT_EQ(ChromeTrace::ns(block["ts"]), 10'000);  // from the first event on
  EXPECT_EQ(ChromeTrace::ns(block["dur"]), 20'000);
  EXPECT_EQ(block["args"]["kernels"], 2);
  EXPECT_DOUBLE_EQ(block["args"]["kernel ms"].get<double>(), 0.02);
  EXPECT_EQ(json.slices("layer")[7]["args"]["layer"], "blocks.0.mlp.down");
  EXPECT_EQ(json.slices("layer")[7]["args"]["direction"], "backward");
}

TEST(ChromeTrace, KeepsTheTimesOfKernelsThatOverlap) {
  Trace trace{.device = "gpu"};
  // The second begins before the first ends, as with programmatic dependent launch.
  trace.kernels = {kernel("a.b", kForward, 1, 0, 10), kernel("a.c", kForward, 1, 8, 10),
                   kernel("d", kForward, 1, 17, 10), kernel("d", kForward, 1, 30, 1)};
  const ChromeTrace json(text_of(trace));
  std::int64_t sum = 0;
  for (const auto& slice : json.slices("kernel"))
    sum += ChromeTrace::ns(slice["dur"]);
  EXPECT_EQ(sum, 31'000);
  EXPECT_THAT(json.track_names(),
              UnorderedElementsAre("layers, stream 7", "stream 7", "stream 7, overlapping"));
  // Layers of one track end where the next begins.
  const auto layers = json.slices("layer");
  EXPECT_THAT(names(layers), ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(ChromeTrace::end_ns(layers[0]), 17'000);
  EXPECT_EQ(ChromeTrace::end_ns(layers[1]), 8'000);
  EXPECT_EQ(ChromeTrace::end_ns(layers[2]), 17'000);
}

TEST(ChromeTrace, HasATrackForEachStreamAndThread) {
  Trace trace{.device = "gpu"};
  trace.kernels = {kernel("a", kForward, 1, 10, 10, 1, 7), kernel("a", kForward, 1, 12, 4, 2, 13)};
  trace.calls = {{.name = "launch", .id = 1, .thread = 1, .start_ns = 1000, .end_ns = 2000},
                 {.name = "launch", .id = 2, .thread = 2, .start_ns = 1500, .end_ns = 2500}};
  const ChromeTrace json(text_of(trace));
  EXPECT_THAT(json.track_names(),
              UnorderedElementsAre("layers, stream 7", "stream 7", "layers, stream 13", "stream 13",
                                   "thread 1", "thread 2"));
}

TEST(ChromeTrace, LinksEachCallToTheFirstKernelThatItQueued) {
  Trace trace{.device = "gpu"};
  trace.kernels = {kernel("b", kForward, 1, 30, 5, 9), kernel("a", kForward, 1, 20, 5, 9),
                   kernel("b", kForward, 1, 35, 5, 9), kernel("c", kForward, 1, 40, 5, 10)};
  trace.calls = {
      {.name = "cudaGraphLaunch", .id = 9, .thread = 1, .start_ns = 0, .end_ns = 4000},
      {.name = "cudaLaunchKernel", .id = 10, .thread = 1, .start_ns = 5000, .end_ns = 6000},
      {.name = "cudaStreamSynchronize", .id = 11, .thread = 1, .start_ns = 7000, .end_ns = 45000}};
  const std::string text = text_of(trace);
  const ChromeTrace json(text);
  EXPECT_EQ(json.arrows(), 2U);
  const nlohmann::json whole = nlohmann::json::parse(text);
  std::vector<std::int64_t> ends;
  for (const auto& event : whole["traceEvents"]) {
    if (event["ph"] == "f") ends.push_back(ChromeTrace::ns(event["ts"]));
  }
  EXPECT_THAT(ends, UnorderedElementsAre(20'000, 40'000));
  EXPECT_EQ(json.slices("cuda_runtime").size(), 3U);
}

TEST(ChromeTrace, CountsMemoryAndEscapesNames) {
  Trace trace{.device = "a \"gpu\"\n"};
  trace.kernels = {kernel("a", kForward, 1, 10, 10)};
  trace.kernels[0].full_name = "void f<\"\\\xff>()";
  trace.memory = {{.time_ns = 9000, .live = 100, .reserved = 300},
                  {.time_ns = 12000, .live = 200, .reserved = 300}};
  const ChromeTrace json(text_of(trace));
  ASSERT_EQ(json.counters().size(), 2U);
  EXPECT_EQ(json.counters()[0]["args"]["live"], 100);
  EXPECT_EQ(json.counters()[0]["args"]["cached"], 200);
  EXPECT_EQ(ChromeTrace::ns(json.counters()[1]["ts"]), 3000);
}

TEST(ChromeTrace, IsAFileAlsoWithoutEvents) {
  EXPECT_EQ(ChromeTrace(text_of({})).events(), 2U);
}

TEST(ChromeTrace, OfThreeStepsOfGpt2IsSmall) {
  // As many kernels as three steps of 12 layers can have, with names as long as those of cuBLAS.
  Trace trace{.device = "gpu"};
  for (int i = 0; i < 3 * 12 * 60; ++i) {
    trace.kernels.push_back(kernel("blocks.11.attention.project", i % 2 == 0 ? kForward : kBackward,
                                   1 + i / 720, 10 * i, 10, static_cast<std::uint64_t>(i + 1)));
    trace.kernels.back().full_name = std::string(300, 'x');
    trace.calls.push_back({.name = "cudaLaunchKernelExC",
                           .id = static_cast<std::uint64_t>(i + 1),
                           .thread = 1,
                           .start_ns = 10000 * i,
                           .end_ns = 10000 * i + 5000});
  }
  EXPECT_LT(text_of(trace).size(), 20'000'000U);
}

TEST(LayerTimes, AddUpByLayerAndDirection) {
  Trace trace;
  trace.kernels = {kernel("a", kForward, 1, 0, 10), kernel("a", kBackward, 1, 10, 30),
                   kernel("a", kForward, 2, 50, 15)};
  const std::vector<LayerTime> times = layer_times(trace);
  ASSERT_EQ(times.size(), 2U);
  EXPECT_EQ(times[0].direction, kBackward);
  EXPECT_EQ(times[0].ns, 30'000);
  EXPECT_EQ(times[1].ns, 25'000);
  EXPECT_EQ(times[1].kernels, 2);
}

TEST(ShortKernelName, LeavesOutNamespacesTemplatesAndParameters) {
  EXPECT_EQ(short_kernel_name("void lamina::(anonymous namespace)::f<int, (E)4>(float*)"), "f");
  EXPECT_EQ(short_kernel_name("lamina::k(lamina::Args<a::b>)"), "k");
  EXPECT_EQ(short_kernel_name("void cub::detail::reduce<cub::A<1>, (anonymous namespace)::B>(int)"),
            "reduce");
  EXPECT_EQ(short_kernel_name("nvjet_hsh_128x256_64x4_1x2_h_bz_TNT"),
            "nvjet_hsh_128x256_64x4_1x2_h_bz_TNT");
  EXPECT_EQ(short_kernel_name(""), "");
}

TEST(TraceRecorder, RecordsEveryKernelUnderItsLayerAndDirection) {
  TraceRecorder recorder(kCpu);
  const Tensor x = full({64, 64}, 1.0);  // before start(): not recorded
  recorder.start();
  for (int step = 1; step <= 2; ++step) {
    recorder.begin_step(step);
    const ProfileScope forward("blocks.0.mlp");
    x.fill(2.0);
    const ProfileScope backward("blocks.0.mlp", Direction::backward);
    (void)x.to(DType::f64);
  }
  const Trace trace = recorder.stop();
  x.fill(3.0);  // after stop()
  ASSERT_EQ(trace.kernels.size(), 4U);
  EXPECT_EQ(trace.kernels[0].op, "fill");
  EXPECT_EQ(trace.kernels[1].op, "copy");
  EXPECT_EQ(trace.kernels[1].direction, Direction::backward);
  EXPECT_EQ(trace.kernels[1].layer, "blocks.0.mlp");
  EXPECT_EQ(trace.kernels[2].step, 2);
  EXPECT_EQ(trace.kernels[0].bytes, 64 * 64 * 4);
  std::map<std::string, std::int64_t> in_file;
  const ChromeTrace json(text_of(trace));
  for (const auto& slice : json.slices("kernel"))
    in_file[slice["args"]["direction"]] += ChromeTrace::ns(slice["dur"]);
  for (const LayerTime& time : layer_times(trace)) {
    EXPECT_EQ(in_file[time.direction == kForward ? "forward" : "backward"], time.ns);
    EXPECT_EQ(time.kernels, 2);
  }
}

TEST(TraceRecorder, RefusesStepsAndResultsOfNoRecording) {
  TraceRecorder recorder(kCpu);
  EXPECT_THAT([&] { recorder.begin_step(1); },
              ThrowsMessage<Error>(HasSubstr("trace: begin_step() is called while nothing is")));
  EXPECT_THROW(recorder.stop(), Error);
  recorder.start();
  recorder.stop();
  EXPECT_THAT([&] { recorder.stop(); }, ThrowsMessage<Error>(HasSubstr("expected start()")));
}

TEST(LaunchSink, KeepsKernelsInsideOfKernels) {
  LaunchSink sink;
  {
    const SinkScope listening(sink);
    const KernelScope outer("outer", {}, CpuStream{});
    const KernelScope inner("inner", {}, CpuStream{});
  }
  ASSERT_EQ(sink.launches().size(), 2U);
  EXPECT_EQ(sink.launches()[0].op, "outer");
  EXPECT_LE(sink.launches()[0].start_ns, sink.launches()[1].start_ns);
  EXPECT_GE(sink.launches()[0].end_ns, sink.launches()[1].end_ns);
}

}  // namespace
}  // namespace lamina
