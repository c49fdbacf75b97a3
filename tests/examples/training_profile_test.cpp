// SPDX-License-Identifier: MIT
// --profile of lamina-gpt train: its tables, profile.jsonl, and that it changes nothing.
#include "examples/gpt/training_profile.h"

#include "examples/gpt/cache.h"
#include "examples/gpt/ceiling_file.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace lamina::gpt {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<json> samples_of(const std::string& directory) {
  std::ifstream file(directory + "/profile.jsonl");
  std::vector<json> samples;
  for (std::string line; std::getline(file, line);)
    samples.push_back(json::parse(line));
  return samples;
}

std::set<std::string> layers_of(const json& sample, const std::string& direction) {
  std::set<std::string> layers;
  for (const json& row : sample["rows"]) {
    if (row["direction"] == direction) layers.insert(row["layer"].get<std::string>());
  }
  return layers;
}

/// One that has the right shape whatever the device.
void expect_plausible(const json& sample, std::int64_t step) {
  EXPECT_EQ(sample["step"], step);
  EXPECT_GT(sample["step_ms"].get<double>(), 0.0);
  EXPECT_GT(sample["profiled_ms"].get<double>(), 0.0);
  EXPECT_GT(sample["peak_bytes"].get<double>(), 10'000.0);
  EXPECT_GT(sample["ceilings"]["copy_gb_s"].get<double>(), 0.0);
  EXPECT_GT(sample["ceilings"]["matmul_tflop_s"].get<double>(), 0.0);
  double named = 0.0;
  for (const json& row : sample["rows"])
    named += row["ms"].get<double>();
  EXPECT_NEAR(sample["named_ms"].get<double>(), named, 1e-9 * named);
  EXPECT_LE(named, sample["profiled_ms"].get<double>());
  for (const std::string direction : {"forward", "backward"}) {
    EXPECT_THAT(layers_of(sample, direction),
                ::testing::IsSupersetOf({"embed", "blocks.0.norm_1", "blocks.0.attention.qkv",
                                         "blocks.1.attention", "blocks.1.mlp.up",
                                         "blocks.1.mlp.down", "norm", "head", "loss"}))
        << direction;
  }
  EXPECT_THAT(layers_of(sample, "forward"), ::testing::Contains("optimizer"));
}

TEST(TrainingProfile, PrintsAndAppendsEverySample) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome = train_tiny(out, {"--profile=10", "--steps", "25"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  const std::vector<json> samples = samples_of(out);
  ASSERT_EQ(samples.size(), 2U);
  expect_plausible(samples[0], 10);
  expect_plausible(samples[1], 20);
  int products = 0;
  for (const json& row : samples[0]["rows"]) {
    if (row["layer"] == "blocks.0.mlp.up" && row["direction"] == "forward" &&
        row["kernel"] == "gemm") {
      ++products;
      EXPECT_EQ(row["calls"], 1);
      // 8 x 32 positions, 32 to 128 features.
      EXPECT_EQ(row["flops"], 2.0 * 256 * 32 * 128);
      // The value before the activation and the one behind it.
      EXPECT_GE(row["live_bytes"], 2 * 256 * 128 * 4);
    }
  }
  EXPECT_EQ(products, 1);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("profile of step 10\n"), HasSubstr("blocks.*.mlp.up"),
                                 HasSubstr("profile, mean of 2 steps up to step 20"),
                                 HasSubstr("coverage "), Not(HasSubstr("blocks.1"))));
}

TEST(TrainingProfile, IsOfTheLastStepOfAShortRun) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome = train_tiny(
      out, {"--profile", "--steps", "7", "--profile-depth", "2", "--profile-fold=false"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  ASSERT_EQ(samples_of(out).size(), 1U);
  expect_plausible(samples_of(out)[0], 7);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("\nblocks.1.mlp "), Not(HasSubstr("blocks.1.mlp.up")),
                                 Not(HasSubstr("mean of"))));
}

TEST(TrainingProfile, ChangesNoWeight) {
  const TemporaryDirectory directory;
  std::vector<std::vector<json>> logs;
  for (const std::string every : {"0", "3"}) {
    const std::string out = directory.file(every);
    const Outcome outcome = train_tiny(
        out, {"--steps", "20", "--dropout", "0.1", "--log-every", "5", "--profile=" + every});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_EQ(fs::exists(out + "/profile.jsonl"), every == "3");
    logs.push_back(timeless_log(out));
  }
  EXPECT_EQ(logs[0], logs[1]);
}

TEST(TrainingProfile, WritesNullForWhatIsNotKnown) {
  Profile profile;
  profile.step_ms = std::numeric_limits<double>::quiet_NaN();
  profile.rows.emplace_back().ms = 2.0;
  const TemporaryDirectory directory;
  RunLog(directory.file("profile.jsonl")).write(to_json(profile));
  const std::vector<json> samples = samples_of(directory.file(""));
  ASSERT_EQ(samples.size(), 1U);
  EXPECT_TRUE(samples[0]["step_ms"].is_null());
  EXPECT_EQ(samples[0]["named_ms"], 2.0);
}

TEST(CeilingFile, KeepsWhatWasMeasured) {
  (void)run({"train", "--help"});  // sets the cache directory of the tests
  const fs::path path = cache_directory() / "ceilings.txt";
  replace_file(path, "not a line of it\nbf16 1 2 NVIDIA H200\nf32 x y z\n");
  const Ceilings measured = known_ceilings(kCpu, DType::f32);
  std::string text = text_of(path);
  EXPECT_THAT(text, AllOf(HasSubstr("bf16 1 2 NVIDIA H200\n"), HasSubstr(" threads\n")));
  const std::size_t line = text.rfind("f32 ");
  const std::size_t name = text.find(' ', text.find(' ', line + 4) + 1);
  ASSERT_NE(name, std::string::npos);
  replace_file(path, "f32 123.5 4.25" + text.substr(name));
  const Ceilings known = known_ceilings(kCpu, DType::f32);
  EXPECT_EQ(known.copy_gb_s, 123.5);
  EXPECT_EQ(known.matmul_tflop_s, 4.25);
  EXPECT_EQ(known.dtype, "f32");
  EXPECT_NE(measured.copy_gb_s, 123.5);
}

using CudaTrainingProfile = testing::CudaTest;

TEST_F(CudaTrainingProfile, ChangesNoWeightAndCoversTheStep) {
  const TemporaryDirectory directory;
  const std::vector<std::vector<std::string>> kinds = {
      {}, {"--eager"}, {"--accumulate", "2"}, {"--recompute"}, {"--recompute=norm,gelu"}};
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    std::vector<std::vector<json>> logs;
    for (const std::string every : {"0", "7"}) {
      const std::string out = directory.file(std::to_string(kind) + "-" + every);
      std::vector<std::string> more = {"--device",     "cuda", "--steps",           "40",
                                       "--dropout",    "0.1",  "--log-every",       "10",
                                       "--eval-every", "20",   "--profile=" + every};
      more.insert(more.end(), kinds[kind].begin(), kinds[kind].end());
      const Outcome outcome = train_tiny(out, more);
      ASSERT_EQ(outcome.status, 0) << outcome.errors;
      logs.push_back(timeless_log(out));
      if (every == "0") continue;
      const std::vector<json> samples = samples_of(out);
      ASSERT_EQ(samples.size(), 5U);
      for (std::size_t i = 0; i < samples.size(); ++i)
        expect_plausible(samples[i], static_cast<std::int64_t>(7 * (i + 1)));
    }
    EXPECT_EQ(logs[0], logs[1]) << kind;
  }
}

}  // namespace
}  // namespace lamina::gpt
