// SPDX-License-Identifier: MIT
// lamina-gpt train on a run that is there: it goes on to the bit, whatever ended it. The program
// itself is killed by tests/examples/kill_and_resume.py.
#include "examples/gpt/checkpoint.h"
#include "examples/gpt/interrupt.h"
#include "examples/gpt/run_directory.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>
#include <vector>

namespace lamina::gpt {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::ThrowsMessage;

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

fs::path checkpoint_of(const std::string& out, std::int64_t step) {
  std::string digits = std::to_string(step);
  digits.insert(0, 8 - digits.size(), '0');
  return fs::path(out) / "checkpoints" / ("step_" + digits);
}

/// The rows of a CSV file without the columns that depend on time or memory.
std::vector<std::string> timeless_rows(const fs::path& path) {
  std::ifstream file(path);
  std::vector<std::string> rows;
  std::vector<bool> is_kept;
  for (std::string line; std::getline(file, line);) {
    std::istringstream cells(line);
    std::string row;
    std::size_t column = 0;
    for (std::string cell; std::getline(cells, cell, ','); ++column) {
      if (rows.empty()) {
        is_kept.push_back(cell != "ms" && cell != "tok_s" && cell != "elapsed_s" &&
                          cell != "memory");
      }
      if (is_kept.at(column)) row += cell + ",";
    }
    rows.push_back(row);
  }
  return rows;
}

/// All that must not depend on whether a run was left and gone on with.
struct Bits {
  std::string model, optimizer, best;
  json state;
  std::vector<json> log;
  std::vector<std::string> steps, evals, samples;
  std::uintmax_t events = 0;  // bytes; records hold times, but of a fixed size
};

Bits bits_of(const std::string& out, std::int64_t step) {
  const fs::path path = checkpoint_of(out, step);
  Bits bits;
  bits.model = content_of(path / "model.safetensors");
  bits.optimizer = content_of(path / "optimizer.safetensors");
  bits.best = content_of(out + "/checkpoints/best");
  bits.state = json::parse(content_of(path / "state.json"));
  for (const char* key : {"trained_s", "elapsed_s", "logs"})
    bits.state.erase(key);
  bits.log = timeless_log(out);
  bits.steps = timeless_rows(out + "/steps.csv");
  bits.evals = timeless_rows(out + "/evals.csv");
  bits.samples = {content_of(out + "/samples.txt")};
  for (const fs::directory_entry& entry : fs::directory_iterator(out)) {
    if (entry.path().filename().string().starts_with("events.")) bits.events += entry.file_size();
  }
  return bits;
}

void expect_equal(const Bits& is, const Bits& expected) {
  ASSERT_FALSE(expected.model.empty() || expected.optimizer.empty());
  EXPECT_TRUE(is.model == expected.model);
  EXPECT_TRUE(is.optimizer == expected.optimizer);
  EXPECT_EQ(is.best, expected.best);
  EXPECT_EQ(is.state, expected.state);
  EXPECT_EQ(is.log, expected.log);
  EXPECT_EQ(is.steps, expected.steps);
  EXPECT_EQ(is.evals, expected.evals);
  EXPECT_EQ(is.samples, expected.samples);
  EXPECT_EQ(is.events, expected.events);
}

/// Trains with a checkpoint at each step, then goes on from `count` of them.
void resume_at_random_steps(int count, const std::vector<std::string>& more) {
  constexpr std::int64_t kSteps = 25;
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  std::vector<std::string> arguments = words(
      "--steps 25 --dropout 0.1 --accumulate 2 --log-every 3 --keep 99 --eval-every 7 "
      "--checkpoint-every 1 --metrics csv,tensorboard --threads 1");
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome whole = train_tiny(out, arguments);
  ASSERT_EQ(whole.status, 0) << whole.errors;
  const Bits expected = bits_of(out, kSteps);
  ASSERT_GT(expected.log.size(), 12U);
  ASSERT_GT(expected.events, 0U);
  Generator generator(7);
  for (int i = 0; i < count; ++i) {
    const auto step = 1 + static_cast<std::int64_t>(uniform_at(generator.next(), 0) * kSteps);
    const Outcome rest = run({"train", "--out", out, "--resume", std::to_string(step)});
    ASSERT_EQ(rest.status, 0) << rest.errors;
    EXPECT_THAT(rest.out, HasSubstr("resume  step " + std::to_string(step) + ", from "));
    SCOPED_TRACE(step);
    expect_equal(bits_of(out, kSteps), expected);
  }
}

TEST(GptResume, GivesTheBitsOfARunThatWasNeverLeft) {
  resume_at_random_steps(20, {});
}

TEST(GptResume, GoesOnAfterCtrlC) {
  const TemporaryDirectory directory;
  const std::string whole = directory.file("whole"), out = directory.file("run");
  const std::vector<std::string> arguments =
      words("--steps 150 --dropout 0.1 --keep 1 --eval-every 40 --metrics csv --threads 1");
  ASSERT_EQ(train_tiny(whole, arguments).status, 0);
  const auto stop_after = [&](const std::string& text, const std::vector<std::string>& more) {
    std::thread sender = after_line(text, out, [] { kill(getpid(), SIGINT); });
    const Outcome outcome = train_tiny(out, more);
    sender.join();
    return outcome;
  };
  EXPECT_EQ(stop_after("start", arguments).status, 130);
  const Outcome second = stop_after("\"step\":60,", {});
  EXPECT_EQ(second.status, 130) << second.errors;
  EXPECT_THAT(second.out, AllOf(HasSubstr("stopped after step "),
                                HasSubstr("go on with: lamina-gpt train --out " + out)));
  ASSERT_EQ(run({"train", "--out", out}).status, 0);
  expect_equal(bits_of(out, 150), bits_of(whole, 150));
}

TEST(GptResume, GoesOnAfterATimeLimit) {
  const TemporaryDirectory directory;
  const std::string whole = directory.file("whole");
  const std::vector<std::string> arguments =
      words("--steps 150 --keep 1 --eval-every 40 --metrics csv --threads 1");
  ASSERT_EQ(train_tiny(whole, arguments).status, 0);
  for (const std::string limit : {"0.000001", "0.05", "0.08"}) {  // seconds
    const std::string out = directory.file(limit);
    std::vector<std::string> limited = arguments;
    limited.insert(limited.end(), {"--time-limit", limit});
    EXPECT_THAT(
        train_tiny(out, limited).out,
        AllOf(HasSubstr("steps (time limit)"), HasSubstr("go on   lamina-gpt train --out " + out)));
    EXPECT_NO_THROW(load_checkpoint(out));
    const auto cut = timeless_log(out).back()["step"].get<std::int64_t>();
    const json state = json::parse(content_of(checkpoint_of(out, cut) / "state.json"));
    if (const auto best = state["best_step"].get<std::int64_t>(); best >= 0) {
      EXPECT_TRUE(fs::exists(checkpoint_of(out, best))) << "step " << best << " of " << cut;
    }
    ASSERT_EQ(run({"train", "--out", out, "--time-limit", "0"}).status, 0);
    expect_equal(bits_of(out, 150), bits_of(whole, 150));
  }
}

TEST(GptResume, StartsAgainWhenThereIsNoCheckpointYet) {
  const TemporaryDirectory directory;
  const std::string whole = directory.file("whole"), out = directory.file("run");
  for (const std::string& path : {whole, out})
    ASSERT_EQ(train_tiny(path, {"--steps", "3", "--metrics", "csv"}).status, 0);
  fs::remove_all(out + "/checkpoints");
  ASSERT_EQ(run({"train", "--out", out}).status, 0);
  expect_equal(bits_of(out, 3), bits_of(whole, 3));
}

TEST(GptResume, UsesTheNewestIntactCheckpointAndNamesTheOthers) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--steps", "6", "--checkpoint-every", "1", "--keep", "3"}).status, 0);
  const Bits expected = bits_of(out, 6);
  fs::resize_file(checkpoint_of(out, 6) / "optimizer.safetensors", 1000);
  fs::remove(checkpoint_of(out, 5) / "MANIFEST");
  const Outcome outcome = run({"train", "--out", out});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(
      outcome.out,
      AllOf(HasSubstr("damaged " + checkpoint_of(out, 6).string() + "/optimizer.safetensors"),
            HasSubstr("damaged disk: opening " + checkpoint_of(out, 5).string()),
            HasSubstr("resume  step 4")));
  expect_equal(bits_of(out, 6), expected);
  for (const std::int64_t step : {4, 5, 6})
    fs::remove(checkpoint_of(out, step) / "MANIFEST");
  const std::string log = content_of(out + "/log.jsonl");
  EXPECT_THAT(run({"train", "--out", out}).errors, HasSubstr("no checkpoint in " + out));
  EXPECT_EQ(content_of(out + "/log.jsonl"), log);
}

TEST(GptResume, RefusesWhenAllCheckpointsAreGone) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--steps", "3"}).status, 0);
  const std::string log = content_of(out + "/log.jsonl");
  fs::remove_all(checkpoint_of(out, 3));
  EXPECT_THAT(run({"train", "--out", out}).errors,
              AllOf(HasSubstr("/latest names step_00000003, which is not there"),
                    HasSubstr("give another --out")));
  EXPECT_EQ(content_of(out + "/log.jsonl"), log);
}

TEST(GptResume, KeepsTheBestOfARunThatHadEnded) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--steps", "40", "--eval-every", "0", "--keep", "1"}).status, 0);
  const Outcome more = run({"train", "--out", out, "--steps", "45", "--lr", "1", "--min-lr", "1",
                            "--schedule", "constant", "--clip", "0"});
  ASSERT_EQ(more.status, 0) << more.errors;
  EXPECT_THAT(more.out, HasSubstr("at step 40"));
  EXPECT_EQ(content_of(out + "/checkpoints/best"), "step_00000040\n");
  EXPECT_EQ(load_checkpoint(out).info.step, 40);
}

TEST(GptResume, NeedsTheModelItBeganWithOnce) {
  const TemporaryDirectory directory;
  const std::string first = directory.file("first"), out = directory.file("run");
  ASSERT_EQ(train_tiny(first, {"--steps", "2"}).status, 0);
  ASSERT_EQ(run({"train", "--device", "cpu", "--from", first, "--out", out, "--steps", "2",
                 "--batch", "4", "--eval-batches", "1", "--samples", "0"})
                .status,
            0);
  fs::remove_all(first);
  const Outcome more = run({"train", "--out", out, "--steps", "4"});
  EXPECT_EQ(more.status, 0) << more.errors;
  EXPECT_THAT(more.out, HasSubstr("resume  step 2"));
  EXPECT_THAT(run({"train", "--from", first, "--device", "cpu"}).errors, HasSubstr(first));
}

TEST(GptResume, RefusesADamagedCheckpointThatIsNamedItself) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run"), copy = directory.file("copy");
  ASSERT_EQ(train_tiny(out, {"--steps", "2"}).status, 0);
  const fs::path checkpoint = checkpoint_of(out, 2);
  fs::copy(checkpoint, copy);
  for (const fs::path& path : {checkpoint, checkpoint / "model.safetensors", fs::path(copy)})
    EXPECT_EQ(load_checkpoint(path).info.step, 2) << path;
  std::string bytes = content_of(checkpoint / "model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write((checkpoint / "model.safetensors").string(), bytes);
  write(copy + "/MANIFEST", "");
  for (const fs::path& path : {checkpoint, checkpoint / "model.safetensors"}) {
    EXPECT_THAT([&] { load_checkpoint(path); },
                ThrowsMessage<Error>(HasSubstr("model.safetensors has the checksum ")))
        << path;
  }
  EXPECT_THAT([&] { load_checkpoint(copy); },
              ThrowsMessage<Error>(HasSubstr("MANIFEST is damaged")));
}

TEST(GptResume, GoesBackToAStepForGood) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--steps", "5", "--checkpoint-every", "1", "--keep", "9"}).status, 0);
  const Bits expected = bits_of(out, 5);
  ASSERT_EQ(run({"train", "--out", out, "--resume", "2", "--time-limit", "0.000001"}).status, 0);
  for (const std::int64_t step : {1, 2, 3, 4, 5})
    EXPECT_EQ(fs::exists(checkpoint_of(out, step)), step <= 2) << step;
  const Outcome rest = run({"train", "--out", out, "--time-limit", "0"});
  EXPECT_THAT(rest.out, HasSubstr("resume  step 2, from "));
  expect_equal(bits_of(out, 5), expected);
}

TEST(GptResume, SaysThatALogIsShorterThanItWas) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--steps", "2"}).status, 0);
  fs::resize_file(out + "/log.jsonl", 5);
  EXPECT_THAT(run({"train", "--out", out}).out,
              HasSubstr("damaged " + out + "/log.jsonl has 5 bytes, expected at least "));
}

TEST(GptResume, TakesOtherOptionsWhereItCan) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--steps", "3"}).status, 0);
  const Outcome longer = run({"train", "--out", out, "--steps", "5", "--lr", "0.001"});
  ASSERT_EQ(longer.status, 0) << longer.errors;
  EXPECT_THAT(longer.out,
              AllOf(HasSubstr("change  --steps 3 -> 5"), HasSubstr("change  --lr 0.002 -> 0.001")));
  EXPECT_EQ(timeless_log(out).back()["step"], 5);
  EXPECT_EQ(json::parse(content_of(out + "/config.json"))["steps"], 5);
  for (const std::vector<std::string>& other :
       std::vector<std::vector<std::string>>{{"--width", "64"},
                                             {"--preset", "toy"},
                                             {"--batch", "4"},
                                             {"--seed", "1"},
                                             {"--accumulate", "2"},
                                             {"--corpus", "standard"},
                                             {"--from", "elsewhere"},
                                             {"--steps", "4"}}) {
    std::vector<std::string> arguments = {"train", "--out", out};
    arguments.insert(arguments.end(), other.begin(), other.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2) << other[0];
    EXPECT_THAT(outcome.errors, HasSubstr(other[0] + " is "));
  }
}

TEST(GptResume, RefusesAnotherText) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run"), text = directory.file("text.txt");
  std::string content;
  for (int i = 0; i < 300; ++i)
    content += "line " + std::to_string(i) + "\n";
  std::ofstream(text) << content;
  ASSERT_EQ(train_tiny(out, {"--text", text, "--steps", "3"}).status, 0);
  std::swap(content[5], content[content.size() - 2]);
  std::ofstream(text) << content;
  const Outcome outcome = run({"train", "--out", out});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("train: the data is text, "));
}

TEST(GptResume, RefusesWhatIsNoRunAndWhatItShallNot) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run"), other = directory.file("other");
  fs::create_directory(other);
  std::ofstream(other + "/notes.txt") << "mine";
  EXPECT_THAT(train_tiny(other, {}).errors, HasSubstr("is no run of lamina-gpt train"));
  ASSERT_EQ(train_tiny(out, {"--steps", "2", "--resume", "never"}).status, 0);
  EXPECT_THAT(run({"train", "--out", out, "--resume", "never"}).errors, HasSubstr("holds a run"));
  const Outcome missing = run({"train", "--out", out, "--resume", "1"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_THAT(missing.errors, AllOf(HasSubstr("--resume is 1: "), HasSubstr("there are 2")));
  EXPECT_EQ(run({"train", "--out", directory.file("new"), "--resume", "1"}).status, 2);
}

TEST(GptResume, LeavesARunToTheTrainerThatHasIt) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--steps", "1"}).status, 0);
  Options options;
  options.out = out;
  const std::string log = content_of(out + "/log.jsonl");
  {
    const RunDirectory held(options);
    const Outcome outcome = run({"train", "--out", out});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.errors,
                HasSubstr("is being trained by process " + std::to_string(getpid()) + " on "));
    EXPECT_EQ(content_of(out + "/log.jsonl"), log);
  }
  EXPECT_EQ(run({"train", "--out", out}).status, 0);
}

TEST(GptResume, TrainsOnWhenACheckpointCannotBeWritten) {
  const TemporaryDirectory directory;
  const std::string whole = directory.file("whole"), out = directory.file("run");
  const std::vector<std::string> arguments = {"--checkpoint-every", "2", "--schedule", "constant",
                                              "--eval-every",       "0"};
  const auto train = [&](const std::string& path, const std::string& steps) {
    std::vector<std::string> all = {"--steps", steps};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return train_tiny(path, all);
  };
  ASSERT_EQ(train(out, "4").status, 0);
  {
    const SmallFiles full(60000);
    const Outcome outcome = train(out, "7");
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.out, HasSubstr("warning the checkpoint of step 6 is not written: disk: "));
    EXPECT_THAT(outcome.errors,
                HasSubstr("train: the checkpoint of step 7 is not written: disk: "));
    EXPECT_EQ(timeless_log(out).back()["event"], "error");
  }
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(out + "/checkpoints"))
    names.push_back(entry.path().filename().string());
  EXPECT_THAT(names, Not(Contains(StartsWith(".tmp-step"))));
  const Outcome rest = train(out, "7");
  ASSERT_EQ(rest.status, 0) << rest.errors;
  EXPECT_THAT(rest.out, HasSubstr("resume  step 4"));
  ASSERT_EQ(train(whole, "7").status, 0);
  EXPECT_TRUE(bits_of(out, 7).optimizer == bits_of(whole, 7).optimizer);
}

TEST(GptResumeDeathTest, ASecondSignalOfAnyKindEndsTheProcess) {
  const auto signal_twice = [] {
    const Interrupt interrupt;
    raise(SIGINT);
    if (interrupt.signal() != SIGINT) return;
    raise(SIGTERM);
  };
  EXPECT_EXIT(signal_twice(), ::testing::KilledBySignal(SIGTERM), "");
}

using CudaGptResume = testing::CudaTest;

TEST_F(CudaGptResume, GivesTheBitsOfARunThatWasNeverLeft) {
  for (const std::string dtype : {"f32", "bf16", "f16"}) {
    SCOPED_TRACE(dtype);
    resume_at_random_steps(20, {"--device", "cuda", "--dtype", dtype});
  }
}

}  // namespace
}  // namespace lamina::gpt
