// SPDX-License-Identifier: MIT
// A NaN in any op of any step of a training: the step is skipped and counted; five in a row end the
// run, which names the op.
#include "examples/gpt/checkpoint.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/cuda_case.h"
#include "tests/support/plant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
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

TEST(GptFault, ANanInAnyOpOfAStepSkipsThatStepOnly) {
  const Recorded run = record_ops();
  ASSERT_GT(run.ops.size(), 20U);
  int planted = 0;
  for (std::size_t at = 0; at < run.ops.size(); ++at) {
    const TemporaryDirectory directory;
    const std::size_t step = 1 + at % 3;  // the first one follows ops of the memory plan
    Plant plant(at, run.first_step + step, run.first_step + step);
    const Outcome outcome = train_watched(directory.file("run"), plant, "4");
    if (!plant.has_planted || makes_loss(run.ops[at])) continue;
    ++planted;
    ASSERT_EQ(outcome.status, 0) << run.ops[at].name << ": " << outcome.errors;
    EXPECT_THAT(outcome.out, HasSubstr("warning 1 of the steps up to " + std::to_string(step + 1)));
    const auto log = timeless_log(directory.file("run"));
    EXPECT_EQ(log.back().at("skipped"), 1) << run.ops[at].name << ", op " << at;
    EXPECT_TRUE(log.back().at("best_val_loss").is_number()) << run.ops[at].name;
  }
  EXPECT_GT(planted, 20);
}

/// On CUDA the third step is captured, with what is planted in it.
void expect_five_in_a_row_end_the_run(const std::string& device) {
  const Recorded run = record_ops(device);
  ASSERT_GT(run.ops.size(), 20U);
  int planted = 0;
  for (std::size_t at = 0; at < run.ops.size(); ++at) {
    const TemporaryDirectory directory;
    Plant plant(at, run.first_step + 2);
    const Outcome outcome = train_watched(directory.file("run"), plant, "20", device);
    if (!plant.has_planted || makes_loss(run.ops[at])) continue;
    ++planted;
    const Plant::Op& op = run.ops[at];
    EXPECT_EQ(outcome.status, 1) << op.name;
    EXPECT_THAT(
        outcome.errors,
        HasSubstr("train: the last 5 steps, up to 7, had a gradient that is not finite, and were "
                  "skipped: " +
                  op.name + (op.scope.empty() ? "" : " in " + op.scope) + " "));
    EXPECT_EQ(outcome.errors.find("gradient of input") != std::string::npos, op.is_backward)
        << outcome.errors;
    const Checkpoint checkpoint = load_checkpoint(directory.file("run"));
    for (const NamedParameter& parameter : checkpoint.model->named_parameters())
      for (const double value : parameter.var->value().to_vector<double>())
        ASSERT_TRUE(std::isfinite(value)) << parameter.name;
  }
  EXPECT_GT(planted, 20);
}

TEST(GptFault, FiveInARowEndTheRunWhichNamesTheOp) {
  expect_five_in_a_row_end_the_run("cpu");
}

using CudaGptFault = testing::CudaTest;

TEST_F(CudaGptFault, FiveInARowEndTheRunWhichNamesTheOp) {
  expect_five_in_a_row_end_the_run("cuda");
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
