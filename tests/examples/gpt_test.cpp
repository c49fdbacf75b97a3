// SPDX-License-Identifier: MIT
// lamina-gpt in this process: its data, model, evaluation, checkpoints and samples.
#include "core/caching_allocator.h"
#include "core/storage.h"
#include "core/text.h"
#include "examples/gpt/checkpoint.h"
#include "examples/gpt/data.h"
#include "examples/gpt/evaluate.h"
#include "examples/gpt/memory_plan.h"
#include "examples/gpt/sample.h"
#include "examples/gpt/training_step.h"
#include "tests/examples/gpt_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace lamina::gpt {
namespace {

using data::Split;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

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

TEST(Gpt, HasTheSameLossFromAFewRowsOfLogitsAtATime) {
  GptConfig config = small_config();
  const auto source = corpus_source("easy");
  const Batch tokens = TokenLoader(*source, 4, 16, kCpu).batch(Split::train, 0);
  std::vector<std::vector<double>> gradients;
  std::vector<double> losses;
  for (const std::int64_t rows : {0, 24}) {
    config.logit_rows = rows;
    seed(7);
    Gpt model(config);
    const Var loss = model.loss(tokens.inputs, tokens.targets);
    backward(loss);
    losses.push_back(loss.value().item<double>());
    std::vector<double>& all = gradients.emplace_back();
    for (const Var* parameter : model.parameters()) {
      for (const double value : parameter->grad().to_vector<double>())
        all.push_back(value);
    }
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6);
  EXPECT_THAT(gradients[1], ::testing::Pointwise(::testing::DoubleNear(1e-6), gradients[0]));
}

TEST(Gpt, HasLogitsInEqualPartsWhereThereWouldBeMoreThanTwoToThe31) {
  const auto rows = [](std::int64_t batch, std::int64_t logit_rows) {
    Options options;
    options.batch = batch;
    options.context = 1024;
    options.logit_rows = logit_rows;
    return model_config(options, 50257).logit_rows;
  };
  EXPECT_EQ(rows(16, 0), 0);
  EXPECT_EQ(rows(41, 0), 0);  // 2.11e9 logits
  EXPECT_EQ(rows(42, 0), 21504);
  EXPECT_EQ(rows(64, 0), 32768);
  EXPECT_EQ(rows(64, 65536), 65536);
  EXPECT_EQ(rows(1, 100), 100);
}

TEST(GptTrainingStep, StartsEveryMicroStepFromTheLossScale) {
  const std::vector<std::string> arguments = {
      "--device", "cpu", "--layers",  "1",    "--width",      "32",  "--heads",  "2",
      "--batch",  "2",   "--corpus",  "easy", "--lr",         "0.1", "--warmup", "0",
      "--steps",  "3",   "--context", "16",   "--accumulate", "2"};
  const Options options = parse_options(Command::train, arguments);
  const auto walk = [&options](double scale) {
    TrainingStep step(options);
    step.optimizer().loss_scale().fill(scale);
    for (std::int64_t i = 0; i < 3; ++i) {
      step.upload(i);
      step.run();
    }
    EXPECT_EQ(step.optimizer().state().loss_scale, scale);
    return std::pair(weights_hash(step.model()), step.optimizer().state().grad_norm);
  };
  EXPECT_EQ(walk(1024.0), walk(1.0));
}

/// The plan for a small model, and what must not change by making it.
struct Planned {
  explicit Planned(std::int64_t batch, Recompute recompute = {}, std::int64_t logit_rows = 0) {
    seed(6);
    GptConfig config = small_config();
    config.dropout = 0.1;
    config.recompute = recompute;
    config.logit_rows = logit_rows;
    Gpt model(config);
    nn::AdamW optimizer(model.parameters(), {});
    const auto source = corpus_source("easy");
    const Batch tokens = TokenLoader(*source, batch, 16, kCpu).batch(Split::train, 0);
    const std::vector<float> weights = model.tokens.weight.value().to_vector<float>();
    const std::uint64_t offset = default_generator().offset();
    plan = plan_memory(model, optimizer, tokens);
    EXPECT_EQ(default_generator().offset(), offset);
    EXPECT_EQ(model.tokens.weight.value().to_vector<float>(), weights);
    EXPECT_FALSE(model.tokens.weight.grad());

    const auto memory = new_allocator(kCpu);
    const AllocatorScope scope(kCpu, *memory);
    backward(model.loss(tokens.inputs, tokens.targets));
    optimizer.step();
    step_peak = memory->stats().peak_live;
  }

  MemoryPlan plan;
  std::size_t step_peak = 0;
};

TEST(GptMemoryPlan, IsWhatAStepNeeds) {
  const Planned small(2), large(8), again(8, {.block = true}), parts(8, {}, 16);
  EXPECT_EQ(large.plan.peak, large.step_peak);
  EXPECT_EQ(large.plan.batch, 8);
  EXPECT_EQ(large.plan.parameters.weights, large.plan.parameters.gradients);
  EXPECT_EQ(large.plan.parameters.moments, 2 * large.plan.parameters.weights);
  EXPECT_EQ(large.plan.parameters.master, 0U);
  EXPECT_GT(large.plan.blocks, 3 * small.plan.blocks);
  constexpr std::size_t kLogits = 8U * 16U * 128U * sizeof(float);
  EXPECT_GE(large.plan.head, kLogits);
  EXPECT_LT(large.plan.head, kLogits + 8U * 1024U);
  EXPECT_GE(large.plan.eval, kLogits);
  constexpr std::size_t kGradients = (8U * 16U + 128U) * 32U * sizeof(float);
  EXPECT_LT(parts.plan.head, kGradients + 2U * 1024U);  // wait for the backward pass
  EXPECT_EQ(parts.plan.peak, parts.step_peak);
  EXPECT_LT(again.plan.blocks, large.plan.blocks / 3);
  EXPECT_LT(again.plan.peak, large.plan.peak);
  EXPECT_LE(large.plan.blocks + large.plan.rest + large.plan.head, large.plan.peak);
  EXPECT_THAT(large.plan.text(), HasSubstr("logits 64.5 KiB"));
}

TEST(GptMemoryPlan, LeavesOutWhatNormAndGeluMakeAgain) {
  const Planned kept(8), norm(8, {.norm = true}), gelu(8, {.gelu = true});
  const Planned all(8, {.norm = true, .gelu = true, .block = true}), block(8, {.block = true});
  constexpr std::size_t kLayers = 2, kRows = 8U * 16U * 32U * sizeof(float);
  EXPECT_EQ(kept.plan.blocks - norm.plan.blocks, kLayers * 2 * kRows);
  EXPECT_EQ(kept.plan.rest - norm.plan.rest, kRows);  // the norm before the head
  EXPECT_EQ(kept.plan.blocks - gelu.plan.blocks, kLayers * 4 * kRows);
  EXPECT_EQ(kept.plan.rest, gelu.plan.rest);
  EXPECT_EQ(block.plan.blocks, all.plan.blocks);
  EXPECT_LT(norm.plan.peak, kept.plan.peak);
  EXPECT_LT(gelu.plan.peak, kept.plan.peak);
  EXPECT_LT(all.plan.peak, block.plan.peak);
  for (const Planned* const planned : {&norm, &gelu, &all})
    EXPECT_EQ(planned->plan.peak, planned->step_peak);
}

TEST(GptMemoryPlan, FindsTheLargestBatchThatFits) {
  MemoryPlan plan{.peak = 300, .eval = 100, .device = 2000, .batch = 4, .layers = 1};
  plan.parameters = {.weights = 100, .master = 0, .gradients = 100, .moments = 200};
  EXPECT_EQ(plan.needed(), 800U);
  EXPECT_EQ(plan.largest_batch(), 15);  // (1900 - 400) / 100
  plan.device = 400;
  EXPECT_EQ(plan.largest_batch(), 0);
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
  EXPECT_NO_THROW(result.check());
}

TEST(GptEvaluator, TakesManyWindowsAFewAtATime) {
  seed(5);
  Gpt model(small_config());
  const auto source = corpus_source("easy");
  const Batch batch = TokenLoader(*source, 600, 16, kCpu).batch(Split::validation, 0);
  const std::vector<float> losses = token_losses(model, batch).to_vector<float>();
  ASSERT_EQ(losses.size(), 9600U);
  for (const std::int64_t window : {0, 511, 512, 599}) {
    const Batch one{batch.inputs.slice(0, window, window + 1),
                    batch.targets.slice(0, window, window + 1)};
    double sum = 0.0;
    for (std::size_t t = 0; t < 16; ++t)
      sum += static_cast<double>(losses[static_cast<std::size_t>(window) * 16 + t]);
    EXPECT_NEAR(sum / 16, model.loss(one.inputs, one.targets).value().item<double>(), 1e-5);
  }
}

TEST(GptEvaluator, FailsWhenTheLossIsBelowTheFloor) {
  Evaluation result;
  result.has_floor = true;
  result.windows = 100;
  result.excess = {.mean = -0.041, .standard_error = 0.01};
  EXPECT_THROW(result.check(), InformationLeak);
  result.excess.mean = -0.039;
  EXPECT_NO_THROW(result.check());
}

TEST(GptEvaluator, FailsWhenTheLossIsNotFinite) {
  Evaluation result;
  result.loss.mean = std::nan("");
  EXPECT_THROW(result.check(), Error);
  result.has_floor = true;
  result.windows = 100;
  result.excess.mean = std::nan("");
  try {
    result.check();
    FAIL();
  } catch (const InformationLeak&) {
    FAIL() << "no number is no leak";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("is nan"));
  }
}

TEST(GptEvaluator, KnowsTheFloorBeforeTheModelRuns) {
  const auto source = corpus_source("easy");
  const TokenLoader loader(*source, 4, 16, kCpu);
  const data::Scenes scenes(data::SceneOptions::easy());
  const std::optional<double> floor = Evaluator(loader, Split::validation, 3).floor();
  ASSERT_TRUE(floor.has_value());
  EXPECT_NEAR(*floor, scenes.floor(Split::validation, 0, 12, 16).mean, 1e-6);
  const auto random = random_source(10, 1);
  EXPECT_FALSE(Evaluator(TokenLoader(*random, 4, 16, kCpu), Split::validation, 3).floor());
}

TEST(GptCheckpoint, ComesBackAsItWasSaved) {
  const TemporaryDirectory directory;
  seed(6);
  Gpt model(small_config());
  const std::string path = directory.file("model.safetensors");
  nn::save_parameters(model, path,
                      metadata_of({.config = model.config,
                                   .vocabulary = data::Vocabulary::builtin(),
                                   .preset = "toy",
                                   .corpus = "easy",
                                   .step = 42}));
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

/// Saves a small model with changed metadata, and says what loading it throws.
std::string error_of_metadata(const std::string& key, const std::string& value) {
  const TemporaryDirectory directory;
  Gpt model(small_config());
  const std::string path = directory.file("model.safetensors");
  nn::Metadata metadata = {
      {"config", R"({"layers":2,"heads":2,"width":32,"context":16,"vocab":96,"dropout":0,)"
                 R"("bias":true})"},
      {"preset", "toy"},
      {"corpus", "easy"},
      {"step", "42"},
      {"vocabulary", data::Vocabulary::builtin().to_json().dump()}};
  metadata[key] = value;
  if (value.empty()) metadata.erase(key);
  nn::save_parameters(model, path, metadata);
  try {
    load_checkpoint(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(GptCheckpoint, SaysWhatIsWrongWithItsMetadata) {
  EXPECT_EQ(error_of_metadata("format", "lamina-gpt"), "");
  EXPECT_THAT(error_of_metadata("config", ""), HasSubstr("there is no config"));
  EXPECT_THAT(error_of_metadata("config", "{"), HasSubstr("config is not"));
  EXPECT_THAT(error_of_metadata("config", R"({"layers": 0})"), HasSubstr("layers is 0"));
  EXPECT_THAT(error_of_metadata("config", R"({"layers":2,"heads":3,"width":32,"context":16,)"
                                          R"("vocab":96,"dropout":0,"bias":true})"),
              HasSubstr("heads is 3, expected a divisor of width 32"));
  EXPECT_THAT(error_of_metadata("step", "many"), HasSubstr("step is \"many\""));
  EXPECT_THAT(error_of_metadata("vocabulary", R"({"level":"byte"})"),
              HasSubstr("the vocabulary has 256 symbols, expected vocab 96"));
}

TEST(GptCheckpoint, NamesAnotherOneWhenTheBestIsDamaged) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run"), checkpoints = out + "/checkpoints/";
  ASSERT_EQ(train_tiny(out, {"--steps", "2", "--checkpoint-every", "1"}).status, 0);
  for (const std::string& place :
       {out, checkpoints + "step_00000001", checkpoints + "step_00000001/model.safetensors"}) {
    EXPECT_EQ(load_checkpoint(place).info.step, place == out ? 2 : 1);
  }
  const std::string damaged = checkpoints + "step_00000002/model.safetensors";
  std::ofstream(damaged) << "broken";
  EXPECT_THAT(run({"sample", out}).errors,
              AllOf(HasSubstr(damaged + " has 6 bytes"),
                    HasSubstr(checkpoints + "step_00000001 is intact: name it instead")));
  fs::remove_all(checkpoints + "step_00000001");
  EXPECT_THAT(run({"sample", out}).errors, Not(HasSubstr("is intact")));
}

}  // namespace
}  // namespace lamina::gpt
