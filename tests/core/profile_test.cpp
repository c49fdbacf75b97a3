// SPDX-License-Identifier: MIT
// The arithmetic of a profile and its table.
#include "core/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

const Ceilings kCeilings = {.copy_gb_s = 1000.0, .matmul_tflop_s = 100.0, .dtype = "bf16"};

/// Two layers of two blocks; a step of 20 ms.
Profile example() {
  const auto row = [](const char* layer, Direction direction, const char* kernel, double calls,
                      double ms, double gb, double gflop, double kept = 0.0) {
    return ProfileRow{.layer = layer,
                      .direction = direction,
                      .kernel = kernel,
                      .calls = calls,
                      .ms = ms,
                      .bytes = gb * 1e9,
                      .flops = gflop * 1e9,
                      .live_bytes = kept};
  };
  return {.step = 100,
          .step_ms = 20.0,
          .profiled_ms = 20.4,
          .peak_bytes = 3.0 * 1024 * 1024,
          .ceilings = kCeilings,
          .rows = {row("blocks.0.norm", Direction::forward, "layer_norm", 1, 1.0, 0.5, 1, 2048),
                   row("blocks.0.mlp.up", Direction::forward, "gemm", 1, 4.0, 0.1, 200),
                   row("blocks.1.norm", Direction::forward, "layer_norm", 1, 3.0, 0.5, 1, 1024),
                   row("blocks.1.mlp.up", Direction::forward, "gemm", 1, 6.0, 0.1, 200),
                   row("blocks.1.mlp.up", Direction::backward, "gemm", 2, 5.0, 0.2, 400)}};
}

/// The words of the line that begins with `name`.
std::vector<std::string> line_of(const std::string& table, const std::string& name) {
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> cells;
    for (std::string word; words >> word;)
      cells.push_back(word);
    if (!cells.empty() && cells[0] == name) return cells;
  }
  return {};
}

TEST(Profile, RooflineIsTheLongerOfBytesAndFlops) {
  EXPECT_DOUBLE_EQ(roofline_ms({.bytes = 2e9, .flops = 1e9}, kCeilings), 2.0);
  EXPECT_DOUBLE_EQ(roofline_ms({.bytes = 1e6, .flops = 3e11}, kCeilings), 3.0);
  EXPECT_EQ(roofline_ms({.bytes = 1e6, .flops = 3e11}, {}), 0.0);
}

TEST(Profile, ComparesWithTheStepThatWasNotProfiled) {
  const Profile profile = example();
  EXPECT_DOUBLE_EQ(profile.named_ms(), 19.0);
  EXPECT_DOUBLE_EQ(profile.coverage(), 0.95);
  EXPECT_NEAR(profile.overhead(), 0.02, 1e-12);
}

TEST(Profile, FoldsPathsByDepthAndNumber) {
  EXPECT_EQ(folded("blocks.3.mlp.up", {}), "blocks.*.mlp.up");
  EXPECT_EQ(folded("blocks.3.mlp.up", {.fold = false}), "blocks.3.mlp.up");
  EXPECT_EQ(folded("blocks.3.mlp.up", {.depth = 2}), "blocks.*.mlp");
  EXPECT_EQ(folded("blocks.3.mlp.up", {.depth = 2, .fold = false}), "blocks.3.mlp");
  EXPECT_EQ(folded("blocks.3.mlp.up", {.depth = 1}), "blocks.*");
  EXPECT_EQ(folded("blocks.12", {.depth = 1, .fold = false}), "blocks.12");
  EXPECT_EQ(folded("head", {.depth = 1}), "head");
  EXPECT_EQ(folded("norm_1", {}), "norm_1");  // a name with a number in it
  EXPECT_EQ(folded("", {}), "-");
}

TEST(ProfileTable, AddsUpLayersAndSaysHowFarFromTheLimitTheyAre) {
  const std::string table = table_of(example());
  // 1 GB in 4 ms: 250 GB/s, and 1 ms at the ceiling: 25 %.
  EXPECT_THAT(line_of(table, "blocks.*.norm"),
              ElementsAre("blocks.*.norm", "4.000", "0.000", "20.0%", "250", "GB/s", "25%", "2",
                          "3.00", "KiB"));
  // 800 GFLOP in 15 ms: 53.3 TFLOP/s, and 8 ms at the ceiling: 53 %.
  EXPECT_THAT(
      line_of(table, "blocks.*.mlp.up"),
      ElementsAre("blocks.*.mlp.up", "10.000", "5.000", "75.0%", "53.3", "TFLOP/s", "53%", "4"));
  EXPECT_THAT(line_of(table, "gemm"),
              ElementsAre("gemm", "10.000", "5.000", "75.0%", "53.3", "TFLOP/s", "53%", "4"));
  EXPECT_LT(table.find("gemm"), table.find("layer_norm"));  // kernels: longest first
  EXPECT_EQ(table.find("kept"), table.rfind("kept"));       // belongs to layers
  EXPECT_THAT(table, HasSubstr("profile of step 100\n"));
  EXPECT_THAT(table, HasSubstr("step 20.400 ms with the profile, 20.000 ms without: overhead "
                               "2.00%\nnamed kernels 19.000 ms: coverage 95.0%\n"
                               "memory at most 3.00 MiB; limits: copy 1000 GB/s, bf16 products 100 "
                               "TFLOP/s\n"));
}

TEST(ProfileTable, KeepsBlocksApartWhenAsked) {
  const std::string table = table_of(example(), {.depth = 2, .fold = false});
  EXPECT_EQ(line_of(table, "blocks.1.mlp")[1], "6.000");
  EXPECT_EQ(line_of(table, "blocks.0.mlp")[1], "4.000");
  EXPECT_TRUE(line_of(table, "blocks.*.mlp").empty());
}

TEST(ProfileTable, LeavesOutWhatIsNotKnown) {
  Profile profile = example();
  profile.ceilings = {};
  profile.step_ms = kNaN;
  const std::string table = table_of(profile);
  EXPECT_THAT(line_of(table, "blocks.*.norm"), ElementsAre("blocks.*.norm", "4.000", "0.000", "-",
                                                           "250", "GB/s", "-", "2", "3.00", "KiB"));
  EXPECT_THAT(table, HasSubstr("not measured without\nnamed kernels 19.000 ms\n"));
  EXPECT_THAT(table, Not(HasSubstr("nan")));
  EXPECT_THAT(table, Not(HasSubstr("limits")));
}

TEST(Profile, MeanIsOverAllSamplesRowByRow) {
  Profile sum{.samples = 0};
  Profile first = example(), second = example();
  first.rows[0].ms = 2.0;
  second.rows[0].ms = 4.0;
  second.step = 150;
  second.step_ms = 22.0;
  second.peak_bytes = 5.0;
  second.rows.erase(second.rows.begin() + 1);  // not in this step
  second.rows.push_back({.layer = "late", .kernel = "fill", .calls = 1, .ms = 3.0});
  sum.add(first);
  sum.add(second);
  const Profile mean = sum.mean();
  EXPECT_EQ(mean.samples, 2);
  EXPECT_EQ(mean.step, 150);
  EXPECT_DOUBLE_EQ(mean.step_ms, 21.0);
  EXPECT_DOUBLE_EQ(mean.peak_bytes, first.peak_bytes);
  ASSERT_EQ(mean.rows.size(), 6U);
  EXPECT_DOUBLE_EQ(mean.rows[0].ms, 3.0);
  EXPECT_DOUBLE_EQ(mean.rows[0].calls, 1.0);
  EXPECT_DOUBLE_EQ(mean.rows[0].live_bytes, 2048.0);
  EXPECT_DOUBLE_EQ(mean.rows[1].ms, 2.0);  // 4 ms in one of two steps
  EXPECT_DOUBLE_EQ(mean.rows[1].calls, 0.5);
  EXPECT_DOUBLE_EQ(mean.rows[4].ms, 5.0);
  EXPECT_EQ(mean.rows[5].layer, "late");
  EXPECT_DOUBLE_EQ(mean.rows[5].ms, 1.5);
  EXPECT_THAT(table_of(mean), HasSubstr("profile, mean of 2 steps up to step 150, per step\n"));
}

}  // namespace
}  // namespace lamina
