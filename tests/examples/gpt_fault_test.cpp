// SPDX-License-Identifier: MIT
// A NaN or an infinity in any op of any step of a training: the step is skipped and counted; five
// in a row end the run, which names the op. Only an infinity may also do no harm.
#include "examples/gpt/checkpoint.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/cuda_case.h"
#include "tests/support/plant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace lamina::gpt {
namespace {

using ::lamina::testing::Plant;
using ::testing::HasSubstr;

Outcome train_watched(const std::string& directory, Plant& plant, const std::string& steps,
                      const std::string& device = "cpu") {
  const WatchOps watch(plant);
  return train_tiny(directory, {"--device", device, "--layers", "1", "--batch", "2", "--dropout",
                                "0.1", "--steps", steps, "--eval-every", "0", "--log-every", "1",
                                "--samples", "0", "--checkpoint-every", "2"});
}

/// The number of the pass that is the first step, and the ops of a step.
struct Recorded {
  std::size_t first_step;
  Plant::Pass ops;
};

Recorded record_ops(const std::string& device = "cpu") {
  const TemporaryDirectory directory;
  Plant nothing;
  EXPECT_EQ(train_watched(directory.file("run"), nothing, "3", device).status, 0);
  const auto trains = [](const Plant::Pass& pass) { return pass.back().is_backward; };
  const auto count =
      static_cast<std::size_t>(std::count_if(nothing.passes.begin(), nothing.passes.end(), trains));
  EXPECT_GE(count, 3U);
  return {count - 3, nothing.passes.at(count - 1)};
}

/// Makes the gradient in the same kernel, so that a loss which is changed later changes nothing.
bool makes_loss(const Plant::Op& op) {
  return op.name == "cross_entropy" && !op.is_backward;
}

void expect_finite_weights(const std::string& directory) {
  const Checkpoint checkpoint = load_checkpoint(directory);
  for (const NamedParameter& parameter : checkpoint.model->named_parameters())
    for (const double value : parameter.var->value().to_vector<double>())
      ASSERT_TRUE(std::isfinite(value)) << parameter.name;
}

/// A run that saw nothing of what was planted: an infinity may vanish, as in exp(-inf), but then
/// from everything.
void expect_harmless(const Outcome& outcome, const std::string& directory) {
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  const auto log = timeless_log(directory);
  EXPECT_EQ(log.back().at("skipped"), 0);
  EXPECT_TRUE(log.back().at("best_val_loss").is_number());
  for (const nlohmann::json& record : log) {
    if (record.at("event") != "step") continue;
    EXPECT_TRUE(record.at("loss").is_number()) << record;
  }
  expect_finite_weights(directory);
}

constexpr double kPlantedNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kPlantedInfinity = std::numeric_limits<double>::infinity();

/// Trains with the value in one op of one step, each op in turn.
void expect_one_bad_step_is_skipped(double value) {
  const Recorded run = record_ops();
  ASSERT_GT(run.ops.size(), 20U);
  int skipped = 0;
  for (std::size_t at = 0; at < run.ops.size(); ++at) {
    SCOPED_TRACE(cat(value, " in ", run.ops[at].name, ", op ", at));
    const TemporaryDirectory directory;
    const std::size_t step = 1 + at % 3;  // the first one follows ops of the memory plan
    Plant plant(value, at, run.first_step + step, run.first_step + step);
    const Outcome outcome = train_watched(directory.file("run"), plant, "4");
    if (!plant.has_planted || makes_loss(run.ops[at])) continue;
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const auto log = timeless_log(directory.file("run"));
    if (std::isinf(value) && log.back().at("skipped") == 0) {
      expect_harmless(outcome, directory.file("run"));
      continue;
    }
    ++skipped;
    EXPECT_THAT(outcome.out, HasSubstr("warning 1 of the steps up to " + std::to_string(step + 1)));
    EXPECT_EQ(log.back().at("skipped"), 1);
    EXPECT_TRUE(log.back().at("best_val_loss").is_number());
    expect_finite_weights(directory.file("run"));
  }
  EXPECT_GT(skipped, 20);
}

TEST(GptFault, ANanInAnyOpOfAStepSkipsThatStepOnly) {
  expect_one_bad_step_is_skipped(kPlantedNaN);
}

TEST(GptFault, AnInfinityInAnyOpOfAStepSkipsThatStepOnlyOrIsHarmless) {
  expect_one_bad_step_is_skipped(kPlantedInfinity);
}

/// On CUDA the third step is captured, with what is planted in it.
void expect_five_in_a_row_end_the_run(double value, const std::string& device) {
  const Recorded run = record_ops(device);
  ASSERT_GT(run.ops.size(), 20U);
  int ended = 0;
  for (std::size_t at = 0; at < run.ops.size(); ++at) {
    const Plant::Op& op = run.ops[at];
    SCOPED_TRACE(cat(value, " in ", op.name, ", op ", at));
    const TemporaryDirectory directory;
    Plant plant(value, at, run.first_step + 2);
    const Outcome outcome = train_watched(directory.file("run"), plant, "20", device);
    if (!plant.has_planted || makes_loss(op)) continue;
    if (std::isinf(value) && outcome.status == 0) {
      expect_harmless(outcome, directory.file("run"));
      continue;
    }
    ++ended;
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(
        outcome.errors,
        HasSubstr("train: the last 5 steps, up to 7, had a gradient that is not finite, and were "
                  "skipped: " +
                  op.name + (op.scope.empty() ? "" : " in " + op.scope) + " "));
    EXPECT_EQ(outcome.errors.find("gradient of input") != std::string::npos, op.is_backward)
        << outcome.errors;
    expect_finite_weights(directory.file("run"));
  }
  EXPECT_GT(ended, 20);
}

TEST(GptFault, FiveInARowEndTheRunWhichNamesTheOp) {
  expect_five_in_a_row_end_the_run(kPlantedNaN, "cpu");
}

TEST(GptFault, FiveInfinitiesInARowEndTheRunWhichNamesTheOpOrAreHarmless) {
  expect_five_in_a_row_end_the_run(kPlantedInfinity, "cpu");
}

using CudaGptFault = testing::CudaTest;

TEST_F(CudaGptFault, FiveInARowEndTheRunWhichNamesTheOp) {
  expect_five_in_a_row_end_the_run(kPlantedNaN, "cuda");
}

TEST_F(CudaGptFault, FiveInfinitiesInARowEndTheRunWhichNamesTheOpOrAreHarmless) {
  expect_five_in_a_row_end_the_run(kPlantedInfinity, "cuda");
}

TEST(GptFault, ALearningRateThatIsTooLargeEndsTheRun) {
  const TemporaryDirectory directory;
  const Outcome outcome =
      train_tiny(directory.file("run"), {"--steps", "300", "--lr", "10", "--clip", "0", "--warmup",
                                         "0", "--weight-decay", "10", "--schedule", "constant"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("had a gradient that is not finite"));
  EXPECT_THAT(outcome.errors, HasSubstr("try a smaller --lr"));
}

}  // namespace
}  // namespace lamina::gpt
