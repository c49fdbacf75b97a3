// SPDX-License-Identifier: MIT
// Generation: with and without kept keys and values, where samples end, and what is told of them.
#include "examples/gpt/sample.h"

#include "examples/gpt/utf8.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace lamina::gpt {
namespace {

using ::testing::HasSubstr;
using Tokens = std::vector<std::int32_t>;

GptConfig sampled_config() {
  return {.layers = 2, .heads = 2, .width = 32, .context = 16, .vocab = 96};
}

/// Whose weights are large enough that what came before decides about the next token.
struct LivelyGpt : Gpt {
  explicit LivelyGpt(std::uint64_t number, const GptConfig& config = sampled_config())
      : Gpt(config) {
    Generator generator(number);
    for (const NamedParameter& parameter : named_parameters()) {
      if (parameter.var->rank() < 2) continue;
      const Tensor& value = parameter.var->value();
      value.copy_from(randn(value.shape(), generator, DType::f32));
      for (std::int64_t i = 0; i < value.elements(); ++i)
        value.data<float>()[i] *= 0.3F;
    }
  }
};

const Tokens kPrompt = {1, 2, 3};

TEST(GptSample, FailsWhenTheLogitsAreNotFinite) {
  seed(9);
  Gpt model(sampled_config());
  model.tokens.weight.value().data<float>()[50 * 32] = std::nanf("");  // one class
  const bool was_training = model.is_training();
  EXPECT_THROW(generate(model, Tokens{9}, {.count = 1, .length = 2}), Error);
  EXPECT_EQ(model.is_training(), was_training);
}

TEST(GptSample, IsReproducibleAndGoesPastTheContext) {
  LivelyGpt model(7);
  SampleOptions options{.count = 2, .length = 40, .seed = 11};
  const auto first = generate(model, kPrompt, options);
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].tokens.size(), 43U);
  EXPECT_EQ(first[0].log_probs.size(), 40U);
  EXPECT_EQ(first, generate(model, kPrompt, options));
  EXPECT_NE(first[0], first[1]);
  options.seed = 12;
  EXPECT_NE(first, generate(model, kPrompt, options));
}

TEST(GptSample, GivesTheSameTokensWithAndWithoutTheCache) {
  for (const bool is_wide : {false, true}) {
    GptConfig config = sampled_config();
    config.wide_residual = is_wide;
    LivelyGpt model(3, config);
    for (const Tokens& prompt : {Tokens{5}, kPrompt, Tokens(15, 8), Tokens(16, 7), Tokens(17, 6)}) {
      SampleOptions options{.count = 3, .length = 30, .temperature = 1.3, .seed = 5};
      const auto cached = generate(model, prompt, options);
      options.use_cache = false;
      const auto whole = generate(model, prompt, options);
      for (std::size_t i = 0; i < whole.size(); ++i) {
        EXPECT_EQ(cached[i].tokens, whole[i].tokens) << prompt.size();
        for (std::size_t t = 0; t < whole[i].log_probs.size(); ++t)
          ASSERT_NEAR(cached[i].log_probs[t], whole[i].log_probs[t], 1e-4);
      }
    }
  }
}

TEST(GptSample, GivesTheLogarithmsOfTheProbabilities) {
  LivelyGpt model(4);
  const Sample sample = generate(model, kPrompt, {.length = 8, .temperature = 0.5, .top_k = 7})[0];
  model.eval();
  const NoGrad no_grad;
  const Tensor ids = from_vector(Tokens(sample.tokens.begin(), sample.tokens.end() - 1), {1, 10});
  const std::vector<double> logits = model(ids).value().to_vector<double>();
  for (std::size_t t = 2; t < 10; ++t) {
    double sum = 0.0;
    for (std::size_t c = 0; c < 96; ++c)
      sum += std::exp(logits[t * 128 + c]);
    const auto drawn = static_cast<std::size_t>(sample.tokens[t + 1]);
    EXPECT_NEAR(sample.log_probs[t - 2], logits[t * 128 + drawn] - std::log(sum), 1e-4);
  }
}

TEST(GptSample, TopOneIsTheLikeliestToken) {
  LivelyGpt model(8);
  const SampleOptions cold{.length = 20, .temperature = 0.0, .seed = 2};
  const auto likeliest = generate(model, kPrompt, cold);
  EXPECT_EQ(generate(model, kPrompt, {.length = 20, .top_k = 1, .seed = 1}), likeliest);
  EXPECT_EQ(generate(model, kPrompt, {.length = 20, .top_p = 1e-6, .seed = 1}), likeliest);
  EXPECT_NE(generate(model, kPrompt, {.length = 20, .temperature = 3.0, .seed = 1}), likeliest);
}

TEST(GptSample, DoesNotRepeatWhatIsPenalised) {
  LivelyGpt model(8);
  const Sample sample =
      generate(model, kPrompt, {.length = 12, .temperature = 0.0, .repetition_penalty = 100.0})[0];
  const std::set<std::int32_t> different(sample.tokens.begin(), sample.tokens.end());
  EXPECT_EQ(different.size(), sample.tokens.size());
}

TEST(GptSample, EndsWhereTheCallerSays) {
  LivelyGpt model(6);
  const SampleOptions plain{.count = 2, .length = 10, .seed = 4};
  const auto whole = generate(model, kPrompt, plain);
  SampleOptions options = plain;
  std::vector<Tokens> heard(2);
  options.take = [&](std::size_t i, std::int32_t token, float) {
    heard[i].push_back(token);
    return heard[i].size() < (i == 0 ? 4U : 100U);
  };
  const auto ended = generate(model, kPrompt, options);
  EXPECT_EQ(ended[0].tokens, Tokens(whole[0].tokens.begin(), whole[0].tokens.begin() + 7));
  EXPECT_EQ(ended[0].log_probs.size(), 4U);
  EXPECT_EQ(ended[1], whole[1]);
  EXPECT_EQ(heard[1], Tokens(whole[1].tokens.begin() + 3, whole[1].tokens.end()));
  int asked = 0;
  options.is_stopped = [&] { return asked++ == 3; };
  options.take = {};
  EXPECT_EQ(generate(model, kPrompt, options)[0].log_probs.size(), 3U);
  EXPECT_TRUE(generate(model, kPrompt, {.count = 0}).empty());
  EXPECT_EQ(generate(model, kPrompt, {.length = 0})[0].tokens, kPrompt);
  EXPECT_THROW(generate(model, Tokens{}, {}), Error);
}

TEST(GptSample, EndsATextBeforeAStopText) {
  LivelyGpt model(2);
  const auto vocabulary = data::Vocabulary::builtin();
  const SampleOptions options{.length = 60, .seed = 3};
  const std::string whole = generate_text(model, vocabulary, "Ada", options)[0];
  ASSERT_EQ(whole.size(), 63U);
  const std::string stop = whole.substr(20, 3);
  const std::size_t at = whole.find(stop, 3);
  for (const std::vector<std::string>& stops :
       {std::vector<std::string>{stop}, {"@@@@@@", stop}, {whole.substr(40, 2), stop}}) {
    std::string heard;
    std::size_t pieces = 0;
    const TextOptions text{.stop = stops, .on_text = [&](std::size_t i, std::string_view more) {
                             EXPECT_EQ(i, 0U);
                             heard += more;
                             ++pieces;
                           }};
    const std::string ended = generate_text(model, vocabulary, "Ada", options, text)[0];
    EXPECT_EQ(ended, whole.substr(0, std::min(at, whole.find(stops[0], 3))));
    EXPECT_EQ(heard, ended);
    EXPECT_GT(pieces, 5U);
  }
  EXPECT_EQ(generate_text(model, vocabulary, "Ada", options, {.stop = {"Ada"}})[0], whole)
      << "the prompt does not count";
  EXPECT_THROW(generate_text(model, vocabulary, "Ada", options, {.stop = {""}}), Error);
}

TEST(GptSample, TellsWholeCharacters) {
  GptConfig config = sampled_config();
  config.vocab = 256;
  LivelyGpt model(2, config);
  const auto bytes = data::Vocabulary::of_bytes();
  std::string heard;
  std::vector<std::size_t> ends;
  const TextOptions text{.on_text = [&](std::size_t, std::string_view more) {
    heard += more;
    ends.push_back(heard.size());
  }};
  const std::string whole = generate_text(model, bytes, "\xE2\x82\xAC", {.length = 997}, text)[0];
  EXPECT_EQ(whole.size(), 1000U);
  EXPECT_EQ(heard, whole);
  EXPECT_GT(ends.size(), 500U);
  int characters = 0;  // of several bytes, among noise
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const std::size_t count = data::first_character(std::string_view(whole).substr(i)).bytes;
    characters += count > 1 ? 1 : 0;
    for (std::size_t end = i + 1; end < i + count; ++end)
      EXPECT_EQ(std::count(ends.begin(), ends.end(), end), 0) << end;
  }
  EXPECT_GT(characters, 10);
}

TEST(GptSample, CommandReadsPromptsAndWritesLogProbs) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run"), prompt = directory.file("prompt.txt");
  ASSERT_EQ(train_tiny(out, {"--steps", "2"}).status, 0);
  std::ofstream(prompt) << "[mill, dawn]";
  const std::string log = directory.file("log_probs.jsonl");
  const Outcome one = run({"sample", out, "--samples", "1", "--sample-chars", "9", "--prompt-file",
                           prompt, "--log-probs", log, "--seed", "3"});
  EXPECT_EQ(one.status, 0) << one.errors;
  EXPECT_THAT(one.out, ::testing::StartsWith("sample 1 of 1\n\n[mill, dawn]"));
  std::ifstream file(log);
  std::string text;
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    const nlohmann::json entry = nlohmann::json::parse(line);
    text += entry["text"];
    EXPECT_EQ(entry["sample"], 1);
    EXPECT_LT(entry["log_prob"], 0.0);
  }
  EXPECT_EQ(lines, 9);
  EXPECT_EQ(one.out, "sample 1 of 1\n\n[mill, dawn]" + text + "\n\n");
  const Outcome same = run({"sample", out, "--samples", "1", "--sample-chars", "9", "--prompt",
                            "[mill, dawn]", "--seed", "3"});
  EXPECT_EQ(same.out, one.out) << "streamed or not, from a file or not";
  EXPECT_EQ(run({"sample", out, "--prompt", "a", "--prompt-file", prompt}).status, 2);
  EXPECT_THAT(run({"sample", out, "--prompt-file", directory.file("none")}).errors,
              HasSubstr("does not exist"));
  EXPECT_THAT(run({"sample", out, "--top-p", "0"}).errors, HasSubstr("top-p"));
  EXPECT_NE(run({"sample", out, "--stop", ""}).status, 0);
  const Outcome nowhere = run({"sample", out, "--log-probs", directory.file("none/x.jsonl")});
  EXPECT_EQ(nowhere.status, 1);
  EXPECT_THAT(nowhere.errors, HasSubstr("none/x.jsonl failed: No such file or directory"));
  EXPECT_EQ(nowhere.out, "") << "nothing is sampled before";
}

using CudaGptSample = testing::CudaTest;

/// From graph replays and from single kernels that see the whole text: f32 logits differ in the
/// last digits only, so no token does.
TEST_F(CudaGptSample, GivesTheTokensOfTheCpuWithAndWithoutTheCache) {
  LivelyGpt model(3, {.layers = 2, .heads = 2, .width = 64, .context = 64, .vocab = 96});
  SampleOptions options{.count = 3,
                        .length = 80,
                        .temperature = 1.3,
                        .top_k = 40,
                        .top_p = 0.95,
                        .repetition_penalty = 1.1,
                        .seed = 5};
  const auto cpu = generate(model, kPrompt, options);
  model.to(testing::kCuda, DType::f32);
  const auto cached = generate(model, kPrompt, options);
  options.use_cache = false;
  const auto whole = generate(model, kPrompt, options);
  for (std::size_t i = 0; i < cpu.size(); ++i) {
    EXPECT_EQ(cached[i].tokens, whole[i].tokens);
    EXPECT_EQ(cached[i].tokens, cpu[i].tokens);
  }
}

TEST_F(CudaGptSample, IsReproducibleInSixteenBits) {
  LivelyGpt model(3, {.layers = 2, .heads = 2, .width = 128, .context = 64, .vocab = 500});
  model.to(testing::kCuda, DType::bf16);
  const SampleOptions options{.count = 5, .length = 61, .seed = 5};
  const auto first = generate(model, kPrompt, options);
  EXPECT_EQ(first, generate(model, kPrompt, options));
  EXPECT_NE(first[0], first[1]);
}

}  // namespace
}  // namespace lamina::gpt
