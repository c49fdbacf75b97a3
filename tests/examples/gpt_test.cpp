// SPDX-License-Identifier: MIT
// lamina-gpt in this process: its command line, data, training, checkpoints and samples.
#include "examples/gpt/checkpoint.h"
#include "examples/gpt/data.h"
#include "examples/gpt/evaluate.h"
#include "examples/gpt/sample.h"
#include "examples/gpt/train.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <signal.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace lamina::gpt {
namespace {

using data::Split;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// lamina-gpt train with a model of some 10,000 parameters.
Outcome train_tiny(const std::string& directory, std::vector<std::string> more) {
  std::vector<std::string> arguments = {
      "train",  "--preset",       "toy-cpu", "--device",       "cpu", "--layers",  "2", "--width",
      "32",     "--heads",        "2",       "--context",      "32",  "--batch",   "8", "--warmup",
      "5",      "--eval-batches", "2",       "--sample-chars", "40",  "--samples", "1", "--out",
      directory};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run(arguments);
}

/// The records of log.jsonl without what depends on time or memory.
std::vector<json> timeless_log(const std::string& directory) {
  std::ifstream file(directory + "/log.jsonl");
  std::vector<json> records;
  for (std::string line; std::getline(file, line);) {
    json record = json::parse(line);
    for (const char* key : {"ms", "tok_s", "elapsed_s", "memory"})
      record.erase(key);
    records.push_back(std::move(record));
  }
  return records;
}

std::string weights_of(const std::string& directory) {
  const std::vector<json> log = timeless_log(directory);
  return log.empty() ? "" : log.back().value("weights", "");
}

GptConfig small_config() {
  return {.layers = 2, .heads = 2, .width = 32, .context = 16, .vocab = 96};
}

TEST(GptData, TargetsAreTheInputsOneLater) {
  const auto source = corpus_source("easy");
  const TokenLoader loader(*source, 3, 20, kCpu);
  const Batch batch = loader.batch(Split::train, 4);
  const auto inputs = batch.inputs.to_vector<std::int32_t>();
  const auto targets = batch.targets.to_vector<std::int32_t>();
  ASSERT_EQ(batch.inputs.shape(), (Shape{3, 20}));
  for (std::size_t row = 0; row < 3; ++row) {
    std::vector<std::int32_t> window(21);
    source->window(Split::train, 4 * 3 + row, window);
    for (std::size_t t = 0; t < 20; ++t) {
      EXPECT_EQ(inputs[row * 20 + t], window[t]);
      EXPECT_EQ(targets[row * 20 + t], window[t + 1]);
    }
  }
}

TEST(GptData, BatchesDependOnTheirNumberAndSeedOnly) {
  std::string text;
  for (int i = 0; i < 2000; ++i)
    text += static_cast<char>('a' + i * i % 23);
  const auto vocabulary = data::Vocabulary::from_text(text, data::Level::character);
  const auto first = text_source(text, vocabulary, 16, 1);
  const auto other = text_source(text, vocabulary, 16, 2);
  const auto tokens = [](const TokenSource& source, Split split, std::uint64_t index) {
    return TokenLoader(source, 4, 16, kCpu).batch(split, index).inputs.to_vector<std::int32_t>();
  };
  EXPECT_EQ(tokens(*first, Split::train, 7), tokens(*first, Split::train, 7));
  EXPECT_NE(tokens(*first, Split::train, 7), tokens(*first, Split::train, 8));
  EXPECT_NE(tokens(*first, Split::train, 7), tokens(*other, Split::train, 7));
}

TEST(GptData, ValidationWindowsOfATextAreOfItsLastTenth) {
  const std::string text = std::string(900, 'a') + std::string(100, 'b');
  const auto vocabulary = data::Vocabulary::from_text(text, data::Level::character);
  const auto source = text_source(text, vocabulary, 8, 1);
  std::vector<std::int32_t> window(9);
  for (std::uint64_t i = 0; i < 200; ++i) {
    source->window(Split::train, i, window);
    EXPECT_EQ(window, std::vector<std::int32_t>(9, 0));
    source->window(Split::validation, i, window);
    EXPECT_EQ(window, std::vector<std::int32_t>(9, 1));
  }
}

TEST(GptData, RandomTokensCoverTheVocabulary) {
  const auto source = random_source(10, 1);
  std::vector<std::int32_t> window(101);
  std::set<std::int32_t> seen;
  for (std::uint64_t i = 0; i < 10; ++i) {
    source->window(Split::train, i, window);
    seen.insert(window.begin(), window.end());
  }
  EXPECT_EQ(seen.size(), 10U);
  EXPECT_EQ(*seen.begin(), 0);
  EXPECT_EQ(*seen.rbegin(), 9);
}

TEST(GptModel, HasTheParametersOfGpt2) {
  // Radford et al. 2019: the small model, 124,439,808 with a vocabulary of 50257. Rows are padded
  // to 50304, which adds 47 * 768.
  GptConfig config;
  config.layers = 1;  // all blocks are alike
  Gpt model(config);
  std::int64_t count = 0, block = 0;
  std::vector<std::string> names;
  for (const NamedParameter& parameter : model.named_parameters()) {
    const std::int64_t elements = parameter.var->value().elements();
    count += elements;
    if (parameter.name.starts_with("blocks.")) {
      block += elements;
      names.push_back(parameter.name);
    }
  }
  EXPECT_EQ(config.padded_vocab(), 50304);
  EXPECT_EQ(block, 7'087'872);
  EXPECT_EQ(count + 11 * block, 124'439'808 + 47 * 768);
  EXPECT_THAT(names,
              ::testing::ElementsAre(
                  "blocks.0.norm_1.weight", "blocks.0.norm_1.bias", "blocks.0.attention.qkv.weight",
                  "blocks.0.attention.qkv.bias", "blocks.0.attention.project.weight",
                  "blocks.0.attention.project.bias", "blocks.0.norm_2.weight",
                  "blocks.0.norm_2.bias", "blocks.0.mlp.up.weight", "blocks.0.mlp.up.bias",
                  "blocks.0.mlp.down.weight", "blocks.0.mlp.down.bias"));
  EXPECT_EQ(model.blocks[0].attention.qkv.weight.shape(), (Shape{3 * 768, 768}));
  EXPECT_EQ(model.positions.weight.shape(), (Shape{1024, 768}));
}

TEST(GptModel, GradientOfTheTiedHeadHasBothParts) {
  seed(3);
  Gpt model(small_config());
  const auto source = corpus_source("easy");
  const Batch batch = TokenLoader(*source, 2, 16, kCpu).batch(Split::train, 0);
  backward(model.loss(batch.inputs, batch.targets));
  const auto grad = model.tokens.weight.grad().to_vector<float>();
  const auto row_norm = [&](std::int32_t row) {
    double sum = 0.0;
    for (std::size_t c = 0; c < 32; ++c) {
      sum += std::pow(static_cast<double>(grad[static_cast<std::size_t>(row) * 32 + c]), 2);
    }
    return std::sqrt(sum);
  };
  // Rows never read as an input get a gradient from the head; padding gets none.
  EXPECT_GT(row_norm(95), 0.0);
  EXPECT_EQ(row_norm(96), 0.0);

  // Against central differences in the direction of one row that is an input and a class.
  const std::int32_t token = batch.inputs.to_vector<std::int32_t>()[0];
  Tensor weight = model.tokens.weight.value();
  const auto loss_with = [&](float step) {
    const NoGrad no_grad;
    float* const row = weight.data<float>() + token * 32;
    const float direction = 1.0F / std::sqrt(32.0F);
    for (int c = 0; c < 32; ++c)
      row[c] += step * direction * (c % 2 == 0 ? 1.0F : -1.0F);
    const double loss = model.loss(batch.inputs, batch.targets).value().item<double>();
    for (int c = 0; c < 32; ++c)
      row[c] -= step * direction * (c % 2 == 0 ? 1.0F : -1.0F);
    return loss;
  };
  double analytic = 0.0;
  for (std::size_t c = 0; c < 32; ++c) {
    analytic += static_cast<double>(grad[static_cast<std::size_t>(token) * 32 + c]) *
                (c % 2 == 0 ? 1.0 : -1.0) / std::sqrt(32.0);
  }
  const double numeric = (loss_with(0.02F) - loss_with(-0.02F)) / 0.04;
  EXPECT_NEAR(numeric, analytic, 0.02 * std::abs(analytic) + 1e-4);
}

TEST(GptModel, IsCausal) {
  seed(4);
  Gpt model(small_config());
  std::vector<std::int32_t> ids(16, 5);
  const auto logits = [&] { return model(from_vector(ids, {1, 16})).value().to_vector<float>(); };
  const auto before = logits();
  ids[10] = 50;
  const auto after = logits();
  const std::size_t row = 128;  // padded vocabulary
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 10 * row, after.begin()));
  EXPECT_FALSE(std::equal(before.begin() + 10 * row, before.end(), after.begin() + 10 * row));
}

TEST(GptEvaluator, MeasuresTheLossOfTheModelAndTheFloorOfItsWindows) {
  seed(5);
  Gpt model(small_config());
  const auto source = corpus_source("easy");
  const TokenLoader loader(*source, 4, 16, kCpu);
  const Evaluation result = Evaluator(loader, Split::validation, 3)(model);
  double loss = 0.0;
  for (std::uint64_t i = 0; i < 3; ++i) {
    const Batch batch = loader.batch(Split::validation, i);
    loss += model.loss(batch.inputs, batch.targets).value().item<double>() / 3.0;
  }
  const data::Scenes scenes(data::SceneOptions::easy());
  EXPECT_EQ(result.windows, 12);
  EXPECT_NEAR(result.loss.mean, loss, 1e-5);
  EXPECT_NEAR(result.floor, scenes.floor(Split::validation, 0, 12, 16).mean, 1e-6);
  EXPECT_NEAR(result.excess.mean, loss - result.floor, 1e-5);
  EXPECT_TRUE(model.is_training());
  EXPECT_NO_THROW(result.expect_no_leak());
}

TEST(GptEvaluator, FailsWhenTheLossIsBelowTheFloor) {
  Evaluation result;
  result.has_floor = true;
  result.windows = 100;
  result.excess = {.mean = -0.041, .standard_error = 0.01};
  EXPECT_THROW(result.expect_no_leak(), InformationLeak);
  result.excess.mean = -0.039;
  EXPECT_NO_THROW(result.expect_no_leak());
}

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
  EXPECT_LT(evaluations[1]["val_loss"].get<double>(), std::log(96.0) - 1.0);
  EXPECT_GT(evaluations[1]["excess"].get<double>(), 0.0);
  EXPECT_NEAR(evaluations[1]["val_loss"].get<double>() - evaluations[1]["floor"].get<double>(),
              evaluations[1]["excess"].get<double>(), 1e-9);
  for (const char* name :
       {"config.json", "log.jsonl", "samples.txt", "best.safetensors", "last.safetensors"}) {
    EXPECT_TRUE(fs::exists(out + "/" + name)) << name;
  }
  EXPECT_EQ(outcome.out.find('\r'), std::string::npos);  // not a terminal
  EXPECT_THAT(outcome.out, HasSubstr("weights " + weights_of(out)));

  const Outcome again = train_tiny(out, {"--steps", "1"});
  EXPECT_EQ(again.status, 2);
  EXPECT_THAT(again.errors, HasSubstr("never overwritten"));

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

TEST(GptTrain, StopsAtTheTimeLimitWithAllFiles) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome = train_tiny(out, {"--steps", "1000000", "--time-limit", "0.3"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_TRUE(fs::exists(out + "/last.safetensors"));
  EXPECT_LT(timeless_log(out).back()["step"].get<std::int64_t>(), 1000000);
}

TEST(GptTrain, FinishesTheStepOnCtrlC) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  std::thread sender([&] {
    // The first log line of a step: the loop is running and listens.
    for (int i = 0; i < 3000; ++i) {
      std::ifstream file(out + "/log.jsonl");
      for (std::string line; std::getline(file, line);) {
        if (line.find("\"step\",") == std::string::npos) continue;
        kill(getpid(), SIGINT);
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  });
  const Outcome outcome = train_tiny(out, {"--steps", "1000000", "--time-limit", "30"});
  sender.join();
  EXPECT_EQ(outcome.status, 130) << outcome.errors;
  EXPECT_THAT(outcome.out, HasSubstr("sample with: lamina-gpt sample "));
  EXPECT_EQ(timeless_log(out).back()["event"], "stop");
  EXPECT_NO_THROW(load_checkpoint(out));
}

TEST(GptTrain, MeasuresSpeedOnRandomTokensAndPrintsTheProfile) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  const Outcome outcome = train_tiny(out, {"--random-tokens", "--profile", "--steps", "12"});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.out, HasSubstr("blocks.1.mlp"));
  EXPECT_EQ(run({"sample", out}).status, 1);  // no vocabulary
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

TEST(GptTrain, AnotherSeedGivesOtherWeights) {
  const TemporaryDirectory directory;
  for (const std::string number : {"1", "2"}) {
    ASSERT_EQ(train_tiny(directory.file(number), {"--seed", number, "--steps", "3"}).status, 0);
  }
  EXPECT_NE(weights_of(directory.file("1")), weights_of(directory.file("2")));
}

TEST(GptCheckpoint, ComesBackAsItWasSaved) {
  const TemporaryDirectory directory;
  seed(6);
  Gpt model(small_config());
  const std::string path = directory.file("model.safetensors");
  save_checkpoint(model,
                  {.config = model.config,
                   .vocabulary = data::Vocabulary::builtin(),
                   .preset = "toy",
                   .corpus = "easy",
                   .step = 42},
                  path);
  const Checkpoint loaded = load_checkpoint(path);
  EXPECT_EQ(weights_hash(*loaded.model), weights_hash(model));
  EXPECT_EQ(loaded.info.config.width, 32);
  EXPECT_EQ(loaded.info.vocabulary, data::Vocabulary::builtin());
  EXPECT_EQ(loaded.info.corpus, "easy");
  EXPECT_EQ(loaded.info.step, 42);
}

TEST(GptCheckpoint, RefusesWhatIsNone) {
  const TemporaryDirectory directory;
  EXPECT_EQ(run({"sample", directory.file("missing")}).status, 1);
  EXPECT_EQ(run({"sample"}).status, 2);
  std::ofstream(directory.file("x.safetensors")) << "not a checkpoint";
  EXPECT_EQ(run({"sample", directory.file("x.safetensors")}).status, 1);
}

TEST(GptSample, IsReproducibleAndGoesPastTheContext) {
  seed(7);
  Gpt model(small_config());
  const std::vector<std::int32_t> prompt = {1, 2, 3};
  SampleOptions options{.count = 2, .length = 40, .temperature = 1.0, .top_k = 0, .seed = 11};
  const auto first = generate(model, prompt, options);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].size(), 43U);
  EXPECT_EQ(first, generate(model, prompt, options));
  EXPECT_NE(first[0], first[1]);
  options.seed = 12;
  EXPECT_NE(first, generate(model, prompt, options));
}

TEST(GptSample, TopOneIsTheLikeliestToken) {
  seed(8);
  Gpt model(small_config());
  const std::vector<std::int32_t> prompt = {9};
  const SampleOptions top{.count = 1, .length = 20, .temperature = 1.0, .top_k = 1, .seed = 1};
  const SampleOptions cold{.count = 1, .length = 20, .temperature = 0.0, .top_k = 0, .seed = 2};
  EXPECT_EQ(generate(model, prompt, top), generate(model, prompt, cold));
}

using CudaGpt = testing::CudaTest;

TEST_F(CudaGpt, TrainsTheSameWeightsTwice) {
  const TemporaryDirectory directory;
  for (const std::string dtype : {"bf16", "f32"}) {
    std::vector<std::vector<json>> logs;
    for (const std::string number : {"1", "2"}) {
      const std::string out = directory.file(dtype + number);
      const Outcome outcome = train_tiny(out, {"--device", "cuda", "--dtype", dtype, "--steps",
                                               "100", "--dropout", "0.1", "--eval-every", "50"});
      ASSERT_EQ(outcome.status, 0) << outcome.errors;
      logs.push_back(timeless_log(out));
    }
    EXPECT_EQ(logs[0], logs[1]);
  }
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
