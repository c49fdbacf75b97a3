// SPDX-License-Identifier: MIT
// StepGraph, Upload, Download, and random numbers of a step that is captured.
#include "core/step_graph.h"

#include "core/caching_allocator.h"
#include "core/download.h"
#include "core/error.h"
#include "core/kernel_times.h"
#include "core/kernels/dropout.h"
#include "core/kernels/elementwise.h"
#include "core/launch.h"
#include "core/profile_scope.h"
#include "core/storage.h"
#include "core/tensor.h"
#include "core/upload.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <future>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::int64_t kElements = 1000;

/// y += dropout(x), and x += y: what a step leaves behind depends on all steps before.
struct Walk {
  explicit Walk(Device device)
      : x(full({1, kElements}, 1.0, DType::f32, device)),
        y(zeros({1, kElements}, DType::f32, device)) {}

  void operator()() const {
    const Tensor dropped = empty_like(x);
    launch(stream_of(x),
           kernels::Dropout{
               .x = rows(x), .y = rows(dropped), .p = 0.5F, .key = default_generator().next()});
    add(dropped, y);
    launch(stream_of(x),
           kernels::Dropout{
               .x = rows(y), .y = rows(dropped), .p = 0.25F, .key = default_generator().next()});
    add(dropped, x);
  }

  static void add(const Tensor& from, const Tensor& to) {
    launch(stream_of(to),
           kernels::Scale{
               .x = rows(from), .y = rows(to), .factor = 0.5, .write = GradWrite::accumulate});
  }

  std::vector<double> values() const {
    std::vector<double> all = x.to_vector<double>();
    const std::vector<double> more = y.to_vector<double>();
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  Tensor x, y;
};

TEST(StepGraph, RunsEveryStepOnTheCpu) {
  StepGraph graph(kCpu);
  int runs = 0;
  for (int i = 0; i < 5; ++i)
    graph.run([&] { ++runs; });
  EXPECT_EQ(runs, 5);
  EXPECT_EQ(graph.nodes(), 0U);
  EXPECT_EQ(graph.memory(), AllocatorStats());
}

TEST(StepGraph, TimesAStepOnTheCpu) {
  StepGraph graph(kCpu);
  KernelTimes times(kCpu);
  const Tensor x = zeros({4});
  graph.run_timed([&] { x.fill(1.0); }, times);
  graph.run([&] { x.fill(2.0); });  // is not heard
  ASSERT_EQ(times.rows().size(), 1U);
  EXPECT_EQ(times.rows()[0].kernel, "fill");
  EXPECT_EQ(times.rows()[0].calls, 1.0);
}

TEST(StepGraph, NeedsAWarmUp) {
  EXPECT_THAT([] { StepGraph(kCpu, 0); },
              ThrowsMessage<Error>(HasSubstr("step graph: warm_up is 0, expected at least 1")));
}

TEST(ShiftScope, RefusesTheHostAndOtherGenerators) {
  const std::uint64_t shift = 7;
  Generator generator(3), other(4);
  generator.skip(5);
  {
    const ShiftScope scope(generator, &shift);
    const PhiloxKey key = generator.next();
    EXPECT_EQ(key.region().offset, 12U);
    EXPECT_EQ(key.region().seed, 3U);
    EXPECT_THAT([&] { (void)uniform_at(key, 0); },
                ThrowsMessage<Error>(HasSubstr("a key of a step that is captured")));
    EXPECT_THAT([&] { other.next(); },
                ThrowsMessage<Error>(HasSubstr("expected the default generator only")));
    EXPECT_THAT([&] { const ShiftScope second(other, &shift); },
                ThrowsMessage<Error>(HasSubstr("a step is captured already")));
  }
  EXPECT_EQ(generator.next().shift, nullptr);
  EXPECT_EQ(generator.offset(), 7U);
  EXPECT_NO_THROW(other.next());
}

/// Writes 1, 2, ... `count` as i32.
auto counting_from(std::int32_t first) {
  return [first](std::span<std::byte> bytes) {
    const std::span values(reinterpret_cast<std::int32_t*>(bytes.data()), bytes.size() / 4);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = first + static_cast<std::int32_t>(i);
  };
}

TEST(Upload, WritesInPlaceOnTheCpu) {
  const Tensor to = zeros({2, 3}, DType::i32);
  Upload upload(kCpu, to.bytes());
  upload(to, counting_from(4));
  EXPECT_EQ(to.to_vector<std::int32_t>(), (std::vector<std::int32_t>{4, 5, 6, 7, 8, 9}));
}

TEST(Upload, RefusesWhatDoesNotFit) {
  Upload upload(kCpu, 8);
  EXPECT_THAT([&] { upload(zeros({3}, DType::i32), counting_from(0)); },
              ThrowsMessage<Error>(HasSubstr("upload: the tensor has 12 bytes on cpu, contiguous, "
                                             "expected a contiguous one of at most 8 bytes")));
  EXPECT_THAT(
      [&] {
        upload(zeros({2, 2}, DType::i32).slice(1, 0, 1), counting_from(0));
      },
      ThrowsMessage<Error>(HasSubstr("not contiguous")));
  EXPECT_THAT([&] { upload(Tensor(), counting_from(0)); },
              ThrowsMessage<Error>(HasSubstr("upload: the tensor is an empty handle")));
  EXPECT_THAT([] { Upload(kCpu, 8, 0); }, ThrowsMessage<Error>(HasSubstr("0 slots")));
}

std::vector<std::string_view> copies_of(Download& download, std::span<const Tensor> tensors) {
  download.begin(tensors);
  return download.finish();
}

/// Copies of a matrix and of a part of it, twice, with a larger one in between.
void expect_copies(Device device) {
  Download download(device);
  const Tensor matrix = from_vector(std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}, {2, 3}, device);
  const std::vector<Tensor> tensors = {matrix, matrix.slice(1, 1, 2),
                                       zeros({0}, DType::i32, device)};
  for (const std::int64_t size : {1, 1 << 20}) {
    const std::vector<Tensor> large = {full({size}, 7.0, DType::i32, device)};
    const std::vector<std::string_view> sevens = copies_of(download, large);
    EXPECT_EQ(sevens[0].size(), static_cast<std::size_t>(4 * size));
    EXPECT_EQ(sevens[0].back(), '\0');
    EXPECT_EQ(sevens[0][sevens[0].size() - 4], '\7');
    download.begin(tensors);
    matrix.fill(0.0);  // they do not follow
    const std::vector<std::string_view> copies =
        std::async(std::launch::async, [&] { return download.finish(); }).get();
    ASSERT_EQ(copies.size(), 3U);
    const std::vector<std::int32_t> all = {1, 2, 3, 4, 5, 6}, column = {2, 5};
    EXPECT_EQ(copies[0], std::string_view(reinterpret_cast<const char*>(all.data()), 24));
    EXPECT_EQ(copies[1], std::string_view(reinterpret_cast<const char*>(column.data()), 8));
    EXPECT_EQ(copies[2], "");
    matrix.copy_from(from_vector(all, {2, 3}));
  }
}

TEST(Download, CopiesTensors) {
  expect_copies(kCpu);
}

TEST(Download, RefusesAnEmptyHandle) {
  Download download(kCpu);
  const std::vector<Tensor> tensors(1);
  EXPECT_THAT([&] { download.begin(tensors); },
              ThrowsMessage<Error>(HasSubstr("download: a tensor is an empty handle")));
}

using CudaStepGraph = testing::CudaTest;
using CudaDownload = testing::CudaTest;
using CudaUpload = testing::CudaTest;
using testing::kCuda;

TEST_F(CudaDownload, CopiesTensors) {
  expect_copies(kCuda);
  Download download(kCuda);
  const std::vector<Tensor> elsewhere = {zeros({2})};
  EXPECT_THAT([&] { download.begin(elsewhere); },
              ThrowsMessage<Error>(HasSubstr("is on cpu, expected cuda:0")));
}

/// Memory of a device that has none.
class NoMemory final : public Allocator {
 public:
  void* allocate(std::size_t bytes, StreamId /*stream*/) override {
    throw OutOfMemory("none", bytes, {});
  }

  void deallocate(void* /*block*/) override {}

  void use_on(void* /*block*/, StreamId /*stream*/) override {}

  std::size_t trim() override { return 0; }

  AllocatorStats stats() const override { return {}; }

  void reset_peaks() override {}
};

TEST_F(CudaDownload, NeedsNoMemoryOfTheDevice) {
  const Tensor vector = full({1000}, 5.0, DType::f32, kCuda);
  const std::vector<Tensor> tensors = {vector};
  NoMemory allocator;
  const AllocatorScope scope(kCuda, allocator);
  Download download(kCuda);
  download.begin(tensors);
  vector.fill(0.0);
  float last = 0.0F;
  std::memcpy(&last, &download.finish()[0][3996], sizeof last);
  EXPECT_EQ(last, 5.0F);
}

TEST_F(CudaUpload, KeepsTheOrderOfManyUploads) {
  constexpr int kUploads = 50;
  const Tensor to = zeros({1 << 16}, DType::i32, kCuda);
  Upload upload(kCuda, to.bytes(), 3);
  std::vector<Tensor> copies;
  for (int i = 0; i < kUploads; ++i) {
    upload(to, counting_from(i));
    copies.push_back(to.clone());
  }
  for (int i = 0; i < kUploads; ++i) {
    const std::vector<std::int32_t> values =
        copies[static_cast<std::size_t>(i)].to_vector<std::int32_t>();
    EXPECT_EQ(values.front(), i);
    EXPECT_EQ(values.back(), i + (1 << 16) - 1);
  }
}

using Steps = std::vector<int>;

struct WalkOptions {
  bool with_graph = true;
  Steps eager = {};  // do not use the graph
  Steps draws = {};  // have a draw of their own before them
  Steps timed = {};  // are profiled
};

/// What 12 steps leave behind.
std::vector<double> walk(const WalkOptions& options) {
  seed(99);
  const Walk step(kCuda);
  StepGraph graph(kCuda);
  KernelTimes times(kCuda);
  const auto is_in = [](const Steps& steps, int i) {
    return std::find(steps.begin(), steps.end(), i) != steps.end();
  };
  for (int i = 0; i < 12; ++i) {
    if (is_in(options.draws, i)) default_generator().next();
    if (!options.with_graph || is_in(options.eager, i)) {
      graph.run_eagerly([&] { step(); });
    } else if (is_in(options.timed, i)) {
      graph.run_timed([&] { step(); }, times);
    } else {
      graph.run([&] { step(); });
    }
  }
  EXPECT_EQ(graph.nodes() > 0, options.with_graph);
  return step.values();
}

TEST_F(CudaStepGraph, ReplaysTheBitsOfEagerSteps) {
  const std::vector<double> eager = walk({.with_graph = false});
  EXPECT_EQ(walk({}), eager);
  EXPECT_EQ(walk({.eager = {0, 5, 6, 11}}), eager);
}

TEST_F(CudaStepGraph, FollowsDrawsBetweenSteps) {
  const Steps draws = {1, 4, 5, 9};
  EXPECT_EQ(walk({.eager = {7}, .draws = draws}), walk({.with_graph = false, .draws = draws}));
  EXPECT_NE(walk({.draws = {4}}), walk({}));
}

TEST_F(CudaStepGraph, TimedStepsGiveTheSameBits) {
  const std::vector<double> eager = walk({.with_graph = false});
  EXPECT_EQ(walk({.timed = {1, 4, 5, 9}}), eager);  // 1: still eager
  EXPECT_EQ(walk({.timed = {2, 11}}), eager);       // 2: recorded in that call
  EXPECT_EQ(walk({.eager = {7}, .timed = {0, 3, 6, 8}}), eager);
  EXPECT_EQ(walk({.draws = {3, 4}, .timed = {3, 5}}), walk({.with_graph = false, .draws = {3, 4}}));
}

TEST_F(CudaStepGraph, TimesEveryKernelOfAReplay) {
  const Walk step(kCuda);
  StepGraph graph(kCuda);
  KernelTimes times(kCuda);
  for (int i = 0; i < 8; ++i) {
    const auto work = [&] {
      const ProfileScope scope("walk");
      step();
    };
    if (i % 2 == 0) {
      graph.run(work);
      continue;
    }
    graph.run_timed(work, times);
    const std::vector<ProfileRow> rows = times.rows();
    ASSERT_GE(rows.size(), 2U);
    EXPECT_EQ(rows[0].layer, "walk");
    EXPECT_EQ(rows[0].kernel, "dropout");
    EXPECT_EQ(rows[0].calls, 2.0);
    EXPECT_EQ(rows[1].kernel, "scale");
    for (const ProfileRow& row : rows) {
      EXPECT_GT(row.ms, 0.0) << row.kernel;
      EXPECT_LT(row.ms, 1.0) << row.kernel;  // some 3 us each
    }
    EXPECT_EQ(rows.size() == 3, graph.nodes() > 0);  // the random offset
  }
  EXPECT_GE(times.peak_live(), 3 * kElements * sizeof(float));
}

TEST_F(CudaStepGraph, CallsTheStepOnceForTheRecordingAndAsksForNoMemoryAfterwards) {
  const Walk step(kCuda);
  StepGraph graph(kCuda);
  int calls = 0;
  const auto counted = [&] {
    ++calls;
    step();
  };
  for (int i = 0; i < 3; ++i)
    graph.run(counted);
  EXPECT_EQ(graph.nodes(), 5U);  // four kernels, and the random offset
  const AllocatorStats before = graph.memory();
  for (int i = 0; i < 10; ++i)
    graph.run(counted);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(graph.memory(), before);
  EXPECT_EQ(before.live, 0U);
}

TEST_F(CudaStepGraph, AFailedRecordingLeavesNothingBehind) {
  seed(5);
  const Walk step(kCuda);
  StepGraph graph(kCuda, 1);
  graph.run([&] { step(); });
  const std::vector<double> before = step.values();
  const std::uint64_t offset = default_generator().offset();
  EXPECT_THAT(
      [&] {
        graph.run([&] {
          step();
          throw Error("step: cannot go on");
        });
      },
      ThrowsMessage<Error>(HasSubstr("step: cannot go on")));
  EXPECT_THAT([&] { graph.run([&] { (void)step.x.to_vector<float>(); }); },
              ::testing::Throws<Error>());
  EXPECT_THAT([&] { graph.run([&] { (void)empty({1 << 28}, DType::f32, kCuda); }); },
              ThrowsMessage<Error>(HasSubstr("new memory")));
  const Tensor host = zeros({1, kElements});
  EXPECT_THAT([&] { graph.run([&] { step.x.copy_from(host); }); },
              ThrowsMessage<Error>(HasSubstr("copy: the source is host memory while a step is")));
  Upload upload(kCuda, step.x.bytes());
  EXPECT_THAT([&] { graph.run([&] { upload(step.x, counting_from(0)); }); },
              ThrowsMessage<Error>(HasSubstr("upload: the source is host memory while a step is")));
  Generator other(1);
  EXPECT_THAT([&] { graph.run([&] { other.next(); }); },
              ThrowsMessage<Error>(HasSubstr("expected the default generator only")));
  EXPECT_EQ(graph.nodes(), 0U);
  EXPECT_EQ(step.values(), before);
  EXPECT_EQ(default_generator().offset(), offset);
  graph.run([&] { step(); });  // and works again
  EXPECT_GT(graph.nodes(), 0U);
  EXPECT_NE(step.values(), before);
}

TEST_F(CudaStepGraph, WarmsUpAgainAfterAStepThatThrew) {
  StepGraph graph(kCuda, 1);
  bool fails = true;
  const auto step = [&] {
    if (std::exchange(fails, false)) throw Error("step: cannot begin");
    (void)full({1000}, 1.0, DType::f32, kCuda);
  };
  EXPECT_THAT([&] { graph.run(step); }, ThrowsMessage<Error>(HasSubstr("step: cannot begin")));
  graph.run(step);  // brings the memory
  EXPECT_EQ(graph.nodes(), 0U);
  graph.run(step);
  EXPECT_EQ(graph.nodes(), 1U);
}

#if LAMINA_WITH_CUDA
TEST_F(CudaStepGraph, LeavesTheCaptureOfSomebodyElseAlone) {
  const Walk step(kCuda);
  StepGraph graph(kCuda, 1);
  graph.run([&] { step(); });
  const auto stream = std::get<CudaStream>(current_stream(kCuda));
  cuda::begin_capture(stream);
  EXPECT_THAT([&] { graph.run([&] { step(); }); }, ::testing::Throws<CudaError>());
  EXPECT_TRUE(cuda::is_capturing(stream));
  cuda::abandon_capture(stream);
  EXPECT_EQ(graph.nodes(), 0U);
  graph.run([&] { step(); });  // and works again
  EXPECT_GT(graph.nodes(), 0U);
}

TEST_F(CudaStepGraph, RefusesAnotherCurrentStream) {
  const Walk step(kCuda);
  StepGraph graph(kCuda);
  graph.run([&] { step(); });
  const StreamScope elsewhere(CudaStream{nullptr, 0});  // the legacy default stream
  EXPECT_THAT([&] { graph.run([&] { step(); }); },
              ThrowsMessage<Error>(HasSubstr("the current stream is another one")));
  EXPECT_THAT([&] { graph.run_eagerly([&] { step(); }); },
              ThrowsMessage<Error>(HasSubstr("the current stream is another one")));
}
#endif

TEST_F(CudaStepGraph, RefusesAnotherSeed) {
  seed(5);
  const Walk step(kCuda);
  StepGraph graph(kCuda);
  for (int i = 0; i < 4; ++i)
    graph.run([&] { step(); });
  seed(6);
  EXPECT_THAT([&] { graph.run([&] { step(); }); },
              ThrowsMessage<Error>(HasSubstr("has seed 6, expected 5")));
}

TEST_F(CudaStepGraph, TensorsOfTheStepMayOutliveIt) {
  Tensor kept;
  {
    StepGraph graph(kCuda);
    for (int i = 0; i < 4; ++i)
      graph.run([&] { kept = full({100}, 2.0, DType::f32, kCuda); });
  }
  EXPECT_EQ(kept.to_vector<float>(), std::vector<float>(100, 2.0F));
}

}  // namespace
}  // namespace lamina
