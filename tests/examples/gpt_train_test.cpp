// SPDX-License-Identifier: MIT
// lamina-gpt train in this process: its files, its log, how it ends, and that it is reproducible.
#include "examples/gpt/checkpoint.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <sstream>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace lamina::gpt {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

TEST(GptTrain, LossFallsBelowUniformAndTheRunDirectoryIsComplete) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome = train_tiny(out, {"--steps", "60", "--eval-every", "30"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  const std::vector<json> log = timeless_log(out);
  std::vector<json> evaluations;
  for (const json& record : log) {
    if (record["event"] == "eval") evaluations.push_back(record);
  }
  ASSERT_EQ(evaluations.size(), 2U);
  EXPECT_EQ(log[1]["step"], 1);  // the first line has the floor of the evaluations
  EXPECT_EQ(log[1]["floor"], evaluations[0]["floor"]);
  EXPECT_LT(evaluations[1]["val_loss"].get<double>(), std::log(96.0) - 1.0);
  EXPECT_GT(evaluations[1]["excess"].get<double>(), 0.0);
  EXPECT_NEAR(evaluations[1]["val_loss"].get<double>() - evaluations[1]["floor"].get<double>(),
              evaluations[1]["excess"].get<double>(), 1e-9);
  for (const char* name : {"config.json", "log.jsonl", "samples.txt", "checkpoints/best",
                           "checkpoints/latest", "checkpoints/step_00000060/MANIFEST"}) {
    EXPECT_TRUE(fs::exists(out + "/" + name)) << name;
  }
  EXPECT_EQ(outcome.out.find('\r'), std::string::npos);  // not a terminal
  EXPECT_THAT(outcome.out, HasSubstr("weights " + weights_of(out)));

  const Outcome again = train_tiny(out, {"--steps", "1"});
  EXPECT_EQ(again.status, 2);
  EXPECT_THAT(again.errors, HasSubstr("--steps is 1, expected at least 60"));

  const Outcome eval = run({"eval", out, "--device", "cpu", "--batch", "8", "--eval-batches", "2"});
  EXPECT_EQ(eval.status, 0) << eval.errors;
  EXPECT_THAT(eval.out, AllOf(HasSubstr("excess +"), HasSubstr("plan")));
}

TEST(GptTrain, TrainsOnTextAtBothLevels) {
  const TemporaryDirectory directory;
  const std::string path = directory.file("text.txt");
  {
    std::ofstream file(path);
    for (int i = 0; i < 300; ++i)
      file << "na\xc3\xafve caf\xc3\xa9 number " << i << "\n";
  }
  for (const std::string level : {"character", "byte"}) {
    const std::string out = directory.file(level);
    const Outcome outcome =
        train_tiny(out, {"--text", path, "--level", level, "--steps", "20", "--accumulate", "2"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const Checkpoint checkpoint = load_checkpoint(out);
    ASSERT_TRUE(checkpoint.info.vocabulary.has_value());
    EXPECT_EQ(checkpoint.info.vocabulary->size() == 256, level == "byte");
    EXPECT_EQ(run({"sample", out, "--prompt", "caf\xc3\xa9", "--sample-chars", "5"}).status, 0);
    EXPECT_EQ(run({"eval", out}).status, 2);  // needs --text
    EXPECT_EQ(run({"eval", out, "--text", path, "--eval-batches", "1"}).status, 0);
  }
}

double best_loss(const std::string& out) {
  return timeless_log(out).back().at("best_val_loss");
}

TEST(GptTrain, AModelThatTrainingBeginsWithKeepsItsTokens) {
  const TemporaryDirectory directory;
  const std::string first = directory.file("first");
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += "the cat sat on the mat; ";
  const std::string all = write(directory.file("all.txt"), "#!" + text);
  const std::string some = write(directory.file("some.txt"), text);
  const std::string other = write(directory.file("other.txt"), text + "Z");
  ASSERT_EQ(train_tiny(first, {"--text", all, "--steps", "60"}).status, 0);
  const auto go_on = [&](const std::string& path) {
    const std::string out = directory.file(fs::path(path).stem().string());
    const Outcome outcome =
        run({"train", "--device",       "cpu", "--from",    first,  "--text",   path,   "--out",
             out,     "--steps",        "1",   "--lr",      "1e-9", "--min-lr", "1e-9", "--batch",
             "4",     "--eval-batches", "4",   "--samples", "0"});
    return std::pair(outcome, outcome.status == 0 ? best_loss(out) : 0.0);
  };
  EXPECT_LT(go_on(some).second, best_loss(first) + 0.05);  // symbols would have other numbers
  EXPECT_THAT(go_on(other).first.errors, HasSubstr("Z"));

  const std::string random = directory.file("random");
  ASSERT_EQ(train_tiny(random, {"--random-tokens", "--steps", "1", "--samples", "0"}).status, 0);
  EXPECT_THAT(run({"train", "--device", "cpu", "--from", random, "--text", some}).errors,
              HasSubstr("has no vocabulary that says which tokens --text becomes"));
}

TEST(GptTrain, StopsAtTheTimeLimitWithAllFiles) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome = train_tiny(out, {"--steps", "1000000", "--time-limit", "0.3"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_NO_THROW(load_checkpoint(out));
  EXPECT_LT(timeless_log(out).back()["step"].get<std::int64_t>(), 1000000);
  EXPECT_EQ(timeless_log(out).back()["reason"], "time limit");
}

TEST(GptTrain, EndsWithoutAStepWhenTheTimeLimitIsOverAtOnce) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome = train_tiny(out, {"--time-limit", "0.000001"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(timeless_log(out).back()["step"], 0);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("0 steps (time limit)"), HasSubstr("0 tok/s")));
  EXPECT_EQ(outcome.out.find("nan"), std::string::npos);
}

TEST(GptTrain, FailedStartLeavesNoRunDirectory) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run"), text = directory.file("short.txt");
  std::ofstream(text) << "too short";
  EXPECT_EQ(train_tiny(out, {"--text", text}).status, 1);
  EXPECT_EQ(train_tiny(out, {"--text", "/proc/self/mem"}).status, 1);
  EXPECT_FALSE(fs::exists(out));
  const Outcome below_file = train_tiny(text + "/run", {"--steps", "1"});
  EXPECT_EQ(below_file.status, 1);
  EXPECT_THAT(below_file.errors, HasSubstr("cannot be made: Not a directory"));
}

TEST(GptTrain, ReportsThatStdoutFailedAndKeepsTheRun) {
  const TemporaryDirectory directory;
  std::ofstream full("/dev/full");
  std::ostringstream errors;
  Console console{.out = full, .errors = errors};
  const std::vector<std::string> arguments = {"train",
                                              "--preset",
                                              "toy-cpu",
                                              "--device",
                                              "cpu",
                                              "--layers",
                                              "1",
                                              "--width",
                                              "32",
                                              "--heads",
                                              "2",
                                              "--context",
                                              "32",
                                              "--batch",
                                              "2",
                                              "--steps",
                                              "2",
                                              "--eval-batches",
                                              "1",
                                              "--samples",
                                              "0",
                                              "--out",
                                              directory.file("run")};
  EXPECT_EQ(run_command(arguments, console), 1);
  EXPECT_THAT(errors.str(), HasSubstr("stdout: writing failed"));
  EXPECT_EQ(timeless_log(directory.file("run")).back()["event"], "end");
}

TEST(GptTrain, FailingRunLogsItsError) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  std::thread blocker = after("start", out, [&] { std::ofstream(out + "/checkpoints") << "file"; });
  const Outcome outcome =
      train_tiny(out, {"--steps", "1000000", "--time-limit", "1", "--checkpoint-every", "0"});
  blocker.join();
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(timeless_log(out).back()["event"], "error");
  EXPECT_THAT(timeless_log(out).back()["what"].get<std::string>(),
              HasSubstr("/checkpoints failed: File exists"));
}

TEST(GptTrain, LeavesOutTheSamplesOnCtrlCAtTheEnd) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  std::thread sender = after("eval", out, [] { kill(getpid(), SIGINT); });
  const Outcome outcome =
      train_tiny(out, {"--steps", "2", "--samples", "64", "--sample-chars", "100000"});
  sender.join();
  EXPECT_EQ(outcome.status, 130) << outcome.errors;
  EXPECT_EQ(timeless_log(out).back()["event"], "stop");
  EXPECT_FALSE(fs::exists(out + "/samples.txt"));
  EXPECT_EQ(load_checkpoint(out).info.step, 2);
}

TEST(GptTrain, StopsCleanlyWhenTheTerminalGoesAway) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const auto previous = signal(SIGHUP, SIG_DFL);  // ignored below nohup
  std::thread sender = after("step", out, [] { kill(getpid(), SIGHUP); });
  const Outcome outcome = train_tiny(out, {"--steps", "1000000", "--time-limit", "30"});
  sender.join();
  (void)signal(SIGHUP, previous);
  EXPECT_EQ(outcome.status, 129) << outcome.errors;
  EXPECT_EQ(timeless_log(out).back()["event"], "stop");
}

TEST(GptTrain, FinishesTheStepOnCtrlC) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  std::thread sender = after("step", out, [] { kill(getpid(), SIGINT); });
  const Outcome outcome = train_tiny(out, {"--steps", "1000000", "--time-limit", "30"});
  sender.join();
  EXPECT_EQ(outcome.status, 130) << outcome.errors;
  EXPECT_THAT(outcome.out, HasSubstr("go on with: lamina-gpt train --out " + out));
  EXPECT_EQ(timeless_log(out).back()["event"], "stop");
  EXPECT_NO_THROW(load_checkpoint(out));
}

TEST(GptTrain, MeasuresSpeedOnRandomTokens) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--random-tokens", "--steps", "12"}).status, 0);
  EXPECT_EQ(run({"sample", out}).status, 1);  // no vocabulary
}

TEST(GptTrain, MicroStepsHaveTheLossOfTheirTokensInOneBatch) {
  const TemporaryDirectory directory;
  std::vector<std::vector<double>> losses;
  for (const auto& [batch, accumulate] : {std::pair("4", "1"), std::pair("1", "4")}) {
    const std::string out = directory.file(batch);
    const Outcome outcome = train_tiny(
        out, {"--batch", batch, "--accumulate", accumulate, "--steps", "3", "--log-every", "1"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    losses.emplace_back();
    for (const json& record : timeless_log(out))
      if (record["event"] == "step") losses.back().push_back(record["loss"].get<double>());
  }
  ASSERT_EQ(losses[0].size(), 3U);
  EXPECT_THAT(losses[1], Pointwise(DoubleNear(1e-4), losses[0]));
}

TEST(GptTrain, OneAndTwoThreadsGiveIdenticalWeights) {
  const TemporaryDirectory directory;
  std::vector<std::vector<json>> logs;
  for (const std::string threads : {"1", "2"}) {
    const std::string out = directory.file(threads);
    const Outcome outcome = train_tiny(
        out, {"--threads", threads, "--steps", "100", "--dropout", "0.1", "--eval-every", "50"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    logs.push_back(timeless_log(out));
  }
  EXPECT_EQ(logs[0], logs[1]);
  EXPECT_THAT(logs[0].back()["weights"].get<std::string>(), HasSubstr("0x"));
}

TEST(GptTrain, RecomputingGivesIdenticalWeightsInLessMemory) {
  const TemporaryDirectory directory;
  std::vector<json> reference;
  std::int64_t most = 0;
  for (const std::string what : {"=none", "=norm", "=norm,gelu", "", "=gelu,block,norm"}) {
    const std::string out = directory.file("run" + what);
    const Outcome outcome = train_tiny(out, {"--steps", "10", "--dropout", "0.1", "--accumulate",
                                             "2", "--log-every", "5", "--recompute" + what});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    json start;
    std::ifstream(out + "/log.jsonl") >> start;
    const auto activations = start["memory_plan"]["activations"].get<std::int64_t>();
    if (reference.empty()) {
      reference = timeless_log(out);
    } else {
      EXPECT_EQ(timeless_log(out), reference) << what;
      EXPECT_LT(activations, what.starts_with("=norm") ? most : most / 2) << what;
    }
    most = std::max(most, activations);
  }
}

TEST(GptTrain, RefusesABatchThatDoesNotFitAndLeavesNothing) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome =
      train_tiny(out, {"--layers", "200", "--batch", "65536", "--random-tokens"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("--batch 65536 does not fit in the "));
  EXPECT_FALSE(fs::exists(out));
}

TEST(GptTrain, AnotherSeedGivesOtherWeights) {
  const TemporaryDirectory directory;
  for (const std::string number : {"1", "2"}) {
    ASSERT_EQ(train_tiny(directory.file(number), {"--seed", number, "--steps", "3"}).status, 0);
  }
  EXPECT_NE(weights_of(directory.file("1")), weights_of(directory.file("2")));
}

TEST(GptTrain, HasNoPlansOfMatrixProductsOnTheCpu) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run"), plans = directory.file("plans.txt");
  const Outcome outcome = train_tiny(out, {"--steps", "1", "--gemm-report", "--gemm-plans", plans});
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(outcome.out.find("TFLOP/s  of first"), std::string::npos);
  EXPECT_FALSE(fs::exists(plans));
  EXPECT_FALSE(fs::exists(out + "/gemm_plans.txt"));
}

using CudaGpt = testing::CudaTest;

TEST_F(CudaGpt, TrainsTheSameWeightsTwice) {
  const TemporaryDirectory directory;
  for (const std::string dtype : {"bf16", "f16", "f32"}) {
    std::vector<std::vector<json>> logs;
    for (const std::string number : {"1", "2"}) {
      const std::string out = directory.file(dtype + number);
      const Outcome outcome = train_tiny(out, {"--device", "cuda", "--dtype", dtype, "--steps",
                                               "200", "--dropout", "0.1", "--eval-every", "50"});
      ASSERT_EQ(outcome.status, 0) << outcome.errors;
      logs.push_back(timeless_log(out));
    }
    EXPECT_EQ(logs[0], logs[1]);
  }
}

/// Options of a model that is large enough for the fused attention of heads of 64 and for matrix
/// products whose plans are timed, here once for all runs.
std::vector<std::string> timed_products(const TemporaryDirectory& directory) {
  return {"--width",      "256",
          "--heads",      "4",
          "--context",    "128",
          "--batch",      "16",
          "--gemm-plans", directory.file("plans.txt")};
}

TEST_F(CudaGpt, RecomputingGivesIdenticalWeights) {
  const TemporaryDirectory directory;
  std::vector<json> reference;
  for (const std::string what : {"=none", "=norm", ""}) {
    const std::string out = directory.file("run" + what);
    std::vector<std::string> options = timed_products(directory);
    options.insert(options.end(), {"--device", "cuda", "--steps", "10", "--dropout", "0.1",
                                   "--log-every", "5", "--recompute" + what});
    const Outcome outcome = train_tiny(out, options);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    if (reference.empty()) reference = timeless_log(out);
    EXPECT_EQ(timeless_log(out), reference) << what;
  }
}

TEST_F(CudaGpt, TheCapturedStepGivesTheBitsOfTheEagerOne) {
  const TemporaryDirectory directory;
  const std::vector<std::vector<std::string>> kinds = {{},
                                                       {"--accumulate", "2"},
                                                       {"--recompute", "--layers", "3"},
                                                       {"--recompute=norm,gelu"},
                                                       {"--residual", "f32"},
                                                       {"--dtype", "f16"},
                                                       {"--dtype", "f16", "--accumulate", "2"},
                                                       {"--dtype", "f16", "--logit-rows", "24"},
                                                       {"--logit-rows", "24"},
                                                       timed_products(directory)};
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    std::vector<std::vector<json>> logs;
    for (const std::string eager : {"false", "true"}) {
      const std::string out = directory.file(std::to_string(kind) + eager);
      std::vector<std::string> more = {"--device",     "cuda", "--steps",         "50",
                                       "--dropout",    "0.1",  "--log-every",     "10",
                                       "--eval-every", "20",   "--eager=" + eager};
      more.insert(more.end(), kinds[kind].begin(), kinds[kind].end());
      const Outcome outcome = train_tiny(out, more);
      ASSERT_EQ(outcome.status, 0) << outcome.errors;
      const bool has_no_graph =
          content_of(out + "/log.jsonl").find("\"graph_nodes\":0,") != std::string::npos;
      EXPECT_EQ(has_no_graph, eager == "true");
      logs.push_back(timeless_log(out));
    }
    EXPECT_EQ(logs[0], logs[1]);
  }
}

TEST_F(CudaGpt, LearnsInF16) {
  const TemporaryDirectory directory;
  for (const std::string residual : {"same", "f32"}) {
    const std::string out = directory.file(residual);
    const Outcome outcome = train_tiny(out, {"--device", "cuda", "--dtype", "f16", "--residual",
                                             residual, "--steps", "100", "--log-every", "10"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    const std::vector<json> log = timeless_log(out);
    EXPECT_LT(log.back()["best_val_loss"].get<double>(), std::log(96.0) - 1.0);
    const auto skipped = log.back()["skipped"].get<int>();
    EXPECT_LT(skipped, 16);
    const json& last_step = *std::find_if(
        log.rbegin(), log.rend(), [](const json& record) { return record["event"] == "step"; });
    EXPECT_EQ(last_step["loss_scale"].get<double>(), std::ldexp(65536.0, -skipped));
    for (const std::string command : {"sample", "eval"}) {
      EXPECT_EQ(run({command, out, "--device", "cuda", "--dtype", "f16"}).status, 0) << command;
      EXPECT_EQ(run({command, out, "--device", "cpu"}).status, 0) << command;
    }
  }
}

TEST_F(CudaGpt, EndsARunInF16ThatNoLossScaleSaves) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome =
      train_tiny(out, {"--device",       "cuda", "--dtype",    "f16",      "--steps",      "300",
                       "--lr",           "10",   "--clip",     "0",        "--warmup",     "0",
                       "--weight-decay", "10",   "--schedule", "constant", "--eval-every", "0",
                       "--log-every",    "1"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.out, HasSubstr("; the loss scale is now 1\n"));
  EXPECT_THAT(outcome.errors, HasSubstr("train: the last 5 steps, up to "));
  EXPECT_GE(timeless_log(out).back()["step"], 21);
}

TEST_F(CudaGpt, KeepsThePlansOfMatrixProductsInAFile) {
  const TemporaryDirectory directory;
  const std::string plans = directory.file("cache/plans.txt");
  const auto text_of = [](const std::string& path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const auto train = [&](const std::string& name) {
    const Outcome outcome = train_tiny(
        directory.file(name), {"--device", "cuda", "--steps", "5", "--width", "256", "--context",
                               "128", "--batch", "32", "--gemm-plans", plans, "--gemm-report"});
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(outcome.out, HasSubstr("TFLOP/s  of first  choice"));
    return text_of(plans);
  };
  const std::string first = train("first");
  EXPECT_THAT(first, HasSubstr("m 4096, n 768, k 256"));
  EXPECT_EQ(text_of(directory.file("first/gemm_plans.txt")), first);
  EXPECT_EQ(train("second"), first);
  EXPECT_EQ(weights_of(directory.file("second")), weights_of(directory.file("first")));
}

TEST_F(CudaGpt, RefusesAFileThatIsNotOneOfPlans) {
  const TemporaryDirectory directory;
  const std::string plans = directory.file("plans.txt");
  std::ofstream(plans) << "something else\n";
  const Outcome outcome =
      train_tiny(directory.file("run"), {"--device", "cuda", "--gemm-plans", plans});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("--gemm-plans " + plans + ": gemm: a line of the plans"));
  EXPECT_FALSE(fs::exists(directory.file("run")));
}

TEST_F(CudaGpt, FollowsTheCpu) {
  const TemporaryDirectory directory;
  std::vector<double> losses;
  for (const std::string device : {"cpu", "cuda"}) {
    const std::string out = directory.file(device);
    const Outcome outcome = train_tiny(
        out, {"--device", device, "--dtype", "f32", "--steps", "20", "--log-every", "10"});
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    losses.push_back(timeless_log(out).back()["best_val_loss"].get<double>());
  }
  EXPECT_NEAR(losses[0], losses[1], 2e-3);
}

}  // namespace
}  // namespace lamina::gpt
