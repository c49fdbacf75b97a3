// SPDX-License-Identifier: MIT
// lamina-gpt profile in this process.
#include "tests/examples/gpt_case.h"
#include "tests/support/chrome_trace.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

namespace lamina::gpt {
namespace {

using lamina::testing::ChromeTrace;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

Outcome profile_tiny(const TemporaryDirectory& directory, std::vector<std::string> more) {
  std::vector<std::string> arguments = {"profile",
                                        "--preset",
                                        "toy-cpu",
                                        "--layers",
                                        "2",
                                        "--width",
                                        "32",
                                        "--heads",
                                        "2",
                                        "--batch",
                                        "4",
                                        "--context",
                                        "32",
                                        "--trace",
                                        directory.file("trace.json"),
                                        "--memory",
                                        directory.file("memory.pickle")};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run(arguments);
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void expect_every_step_and_layer(const ChromeTrace& trace, int steps) {
  std::vector<std::string> names;
  for (const auto& slice : trace.slices("step"))
    names.push_back(slice["name"]);
  ASSERT_EQ(names.size(), static_cast<std::size_t>(steps));
  EXPECT_EQ(names.back(), "step " + std::to_string(steps));
  std::set<std::string> layers;
  std::int64_t in_layers = 0, in_kernels = 0;
  for (const auto& slice : trace.slices("layer"))
    layers.insert(slice["args"]["direction"].get<std::string>() + " " +
                  slice["args"]["layer"].get<std::string>());
  for (const auto& slice : trace.slices("step"))
    in_layers += static_cast<std::int64_t>(slice["args"]["kernel ms"].get<double>() * 1e6 + 0.5);
  for (const char* category : {"kernel", "gpu_memcpy"}) {
    for (const auto& slice : trace.slices(category))
      in_kernels += ChromeTrace::ns(slice["dur"]);
  }
  EXPECT_EQ(in_layers, in_kernels);
  for (const char* layer : {"forward embed", "forward blocks.0.norm_1", "backward blocks.1.mlp.up",
                            "forward optimizer"}) {
    EXPECT_THAT(layers, Contains(layer));
  }
}

TEST(GptProfile, WritesATraceAndAMemoryFile) {
  const TemporaryDirectory directory;
  const Outcome outcome = profile_tiny(directory, {"--device", "cpu"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("layer at the peak"), HasSubstr("fragmentation"),
                                 HasSubstr("ms a step"), HasSubstr("trace.json")));
  const ChromeTrace trace(read(directory.file("trace.json")));
  expect_every_step_and_layer(trace, 3);
  EXPECT_GT(trace.counters().size(), 100U);  // an allocation or more for each op
  EXPECT_GT(read(directory.file("memory.pickle")).size(), 1000U);
}

TEST(GptProfile, SaysWhatIsWrong) {
  const TemporaryDirectory directory;
  EXPECT_EQ(profile_tiny(directory, {"--device", "cpu", "--eval-every", "3"}).status, 2);
  EXPECT_EQ(profile_tiny(directory, {"--device", "cpu", "--steps", "0"}).status, 2);
  const Outcome outcome =
      profile_tiny(directory, {"--device", "cpu", "--memory", directory.file("no/such/file")});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("no/such/file"));
}

using CudaGptProfile = lamina::testing::CudaTest;

TEST_F(CudaGptProfile, TracesReplaysAndEagerStepsAlike) {
  std::vector<std::size_t> kernels;
  for (const std::string eager : {"true", "false"}) {
    const TemporaryDirectory directory;
    const Outcome outcome = profile_tiny(directory, {"--device", "cuda", "--eager=" + eager});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const ChromeTrace trace(read(directory.file("trace.json")));
    expect_every_step_and_layer(trace, 3);
    EXPECT_GT(trace.arrows(), 0U);
    kernels.push_back(trace.slices("kernel").size());
  }
  EXPECT_EQ(kernels[0], kernels[1]);
}

}  // namespace
}  // namespace lamina::gpt
