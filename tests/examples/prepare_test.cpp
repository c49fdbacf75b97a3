// SPDX-License-Identifier: MIT
// lamina-gpt prepare, and training, evaluating and going on with what it wrote.
#include "examples/gpt/prepare.h"

#include "examples/gpt/bpe.h"
#include "examples/gpt/crc32c.h"
#include "examples/gpt/data.h"
#include "examples/gpt/token_directory.h"
#include "examples/gpt/tokenizer_file.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/error_of.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

namespace lamina::gpt {
namespace {

using ::lamina::testing::error_of;
using ::testing::HasSubstr;

/// Words, numbers, blanks of all kinds and other alphabets.
std::string mixed_text(std::size_t bytes) {
  static const char* const kWords[] = {
      "the ",         "cat's",    "  ",           "\n", "\r\n\t", "1234",
      "na\xc3\xafve", "\xc2\xa0", "\xe3\x80\x80", ". ", "!?",     "\xe7\x8c\xab\xe3\x80\x82\n"};
  std::string text;
  for (std::uint64_t i = 1; text.size() < bytes;
       i = i * 6364136223846793005U + 1442695040888963407U)
    text += kWords[(i >> 33U) % std::size(kWords)];
  return text;
}

std::string tokenizer_of(const std::string& text, const std::string& path) {
  const std::string source = write(path + ".txt", text);
  EXPECT_EQ(run({"tokenizer", "--text", source, "--vocab", "300", "--out", path}).status, 0);
  return path;
}

std::vector<std::int32_t> tokens_of(const std::vector<data::TokenShard>& shards,
                                    std::int64_t vocabulary_size) {
  std::vector<std::int32_t> all;
  for (const data::TokenShard& shard : shards) {
    std::vector<std::int32_t> tokens(shard.size());
    shard.read(0, vocabulary_size, tokens);
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  return all;
}

/// The tokens of both parts, one after the other.
std::vector<std::int32_t> tokens_of(const std::string& directory) {
  const data::TokenDirectory opened = data::open_token_directory(directory);
  std::vector<std::int32_t> all = tokens_of(opened.train, opened.vocabulary_size);
  const std::vector<std::int32_t> rest = tokens_of(opened.validation, opened.vocabulary_size);
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

TEST(Prepare, GivesTheTokensOfTheWholeTextInPieces) {
  const TemporaryDirectory directory;
  const std::string text = mixed_text(5U << 20U);
  const std::string file = write(directory.file("text.txt"), text);
  const std::string tokenizer = tokenizer_of(text.substr(0, 5000), directory.file("tok.json"));
  const std::vector<std::vector<std::string>> forms = {
      {"--tokenizer", tokenizer}, {"--level", "byte"}, {"--level", "character"}};
  for (const auto& form : forms) {
    const std::string out = directory.file("out" + form[1].substr(form[1].size() - 4));
    std::vector<std::string> arguments = {"prepare",        "--text", file,        "--out", out,
                                          "--shard-tokens", "700000", "--threads", "2"};
    arguments.insert(arguments.end(), form.begin(), form.end());
    const Outcome made = run(arguments);
    ASSERT_EQ(made.status, 0) << made.errors;
    const data::TokenDirectory opened = data::open_token_directory(out);
    std::vector<std::int32_t> expected = opened.vocabulary->encode(text);
    if (opened.vocabulary->bpe() != nullptr) {
      expected.push_back(static_cast<std::int32_t>(opened.vocabulary_size) - 1);
    }
    EXPECT_EQ(tokens_of(out), expected) << form[1];
    ASSERT_GT(opened.train.size(), 2U);
    EXPECT_EQ(opened.train[0].size(), 700000U);
    const auto validation = static_cast<double>(tokens_of(opened.validation, 65536).size());
    EXPECT_NEAR(validation / static_cast<double>(expected.size()), 0.1, 0.01);
  }
}

TEST(Prepare, SeparatesTextsAndSplitsAcrossThem) {
  const TemporaryDirectory directory;
  const std::string a = write(directory.file("a"), "the cat sat\n"),
                    b = write(directory.file("b"), "a mat on it");
  const std::string tokenizer =
      tokenizer_of("the cat sat on a mat, it was", directory.file("t.json"));
  const Outcome made = run({"prepare", "--text", a, b, "--tokenizer", tokenizer, "--validation",
                            "0.3", "--out", directory.file("out")});
  ASSERT_EQ(made.status, 0) << made.errors;
  const data::TokenDirectory opened = data::open_token_directory(directory.file("out"));
  const auto text_of = [&](const std::vector<data::TokenShard>& shards) {
    return opened.vocabulary->decode(tokens_of(shards, 300));
  };
  EXPECT_EQ(text_of(opened.train), "the cat sat\n<|endoftext|>a mat");
  EXPECT_EQ(text_of(opened.validation), " on it<|endoftext|>");
  std::ifstream file(directory.file("out") + "/manifest.json");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_EQ(data::parse_manifest(text).train.at(0).crc32c, crc32c(opened.train.at(0).bytes()));
}

TEST(Prepare, WritesWhatNanoGptReads) {
  const TemporaryDirectory directory;
  const std::string text = "na\xc3\xafve cat\n";
  const std::string file = write(directory.file("text.txt"), text);
  const std::string out = directory.file("out");
  ASSERT_EQ(run({"prepare", "--text", file, "--format", "nanogpt", "--out", out}).status, 0);
  EXPECT_EQ(fs::file_size(out + "/train.bin"), 2U * 8);
  EXPECT_EQ(fs::file_size(out + "/val.bin"), 2U * 2);
  fs::remove(out + "/tokenizer.json");
  fs::remove(out + "/manifest.json");  // as nanoGPT's own scripts leave it: with meta.pkl
  EXPECT_EQ(data::open_token_directory(out).vocabulary->decode(tokens_of(out)), text);
}

TEST(Prepare, LeavesNothingBehindWhenItFails) {
  const TemporaryDirectory directory;
  const std::string file = write(directory.file("text.txt"), "some text");
  const std::string out = directory.file("out");
  const auto error = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"prepare", "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run(arguments);
    EXPECT_NE(outcome.status, 0);
    EXPECT_FALSE(fs::exists(out));
    EXPECT_FALSE(fs::exists(out + ".part"));
    return outcome.errors;
  };
  EXPECT_THAT(error({}), HasSubstr("prepare: --text is not given"));
  EXPECT_THAT(error({"--text", directory.file("none")}), HasSubstr("none: opening for reading"));
  EXPECT_THAT(error({"--text", directory.file("")}), HasSubstr("not a regular file"));
  EXPECT_THAT(error({"--text", write(directory.file("empty"), "")}), HasSubstr("has 0 bytes"));
  EXPECT_THAT(error({"--text", write(directory.file("latin"), "caf\xe9 au lait")}),
              HasSubstr("use the byte level"));
  EXPECT_THAT(error({"--text", write(directory.file("one"), "x")}), HasSubstr("nothing is left"));
  EXPECT_THAT(error({"--text", file, "--validation", "0"}), HasSubstr("--validation is 0"));
  EXPECT_THAT(error({"--text", file, "--format", "arrow"}), HasSubstr("expected one of llm.c"));
  EXPECT_THAT(error({"--text", file, "--level", "byte", "--tokenizer", file}),
              HasSubstr("--level and --tokenizer are both given"));
  EXPECT_THAT(error({"--text", file, "--tokenizer", directory.file("none")}), HasSubstr("none"));
  fs::create_directory(out + ".part");
  EXPECT_THAT(run({"prepare", "--text", file, "--out", out}).errors, HasSubstr(".part exists"));
  fs::remove(out + ".part");
  ASSERT_EQ(run({"prepare", "--text", file, "--out", out}).status, 0);
  EXPECT_THAT(run({"prepare", "--text", file, "--out", out}).errors,
              HasSubstr("expected a new or empty directory"));
}

TEST(Prepare, SaysWhyAShardCannotBeWritten) {
  const TemporaryDirectory directory;
  const std::string text = write(directory.file("text.txt"), std::string(100000, 'x'));
  const std::string out = directory.file("a run");
  Outcome outcome{};
  {
    const SmallFiles full(5000);
    outcome = run({"prepare", "--text", text, "--out", out});
  }
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors, HasSubstr("train_000000.bin cannot be written: File too large"));
  EXPECT_FALSE(fs::exists(out + ".part"));
  EXPECT_THAT(run({"prepare", "--text", text, "--out", out}).out,
              HasSubstr("lamina-gpt train --data '" + out + "'\n"));
}

TEST(Shards, GiveEachWindowOnceInAnEpoch) {
  const TemporaryDirectory directory;
  const std::string text = write(directory.file("text.txt"), mixed_text(3000));
  const std::string out = directory.file("out");
  ASSERT_EQ(
      run({"prepare", "--text", text, "--level", "byte", "--shard-tokens", "500", "--out", out})
          .status,
      0);
  constexpr std::int64_t kContext = 16;
  const auto source = shard_source(data::open_token_directory(out), kContext, 7);
  std::vector<std::vector<std::int32_t>> expected;
  for (const data::TokenShard& shard : data::open_token_directory(out).train) {
    for (std::uint64_t first = 0; first + kContext < shard.size(); first += kContext) {
      shard.read(first, 256, expected.emplace_back(kContext + 1));
    }
  }
  ASSERT_GT(expected.size(), 100U);
  std::vector<std::vector<std::vector<std::int32_t>>> epochs(2);
  for (std::size_t i = 0; i < 2 * expected.size(); ++i) {
    auto& window = epochs[i / expected.size()].emplace_back(kContext + 1);
    source->window(data::Split::train, i, window);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  std::sort(expected.begin(), expected.end());
  for (auto& windows : epochs) {
    std::sort(windows.begin(), windows.end());
    EXPECT_EQ(windows, expected);
  }
  EXPECT_THAT(error_of([&] { shard_source(data::open_token_directory(out), 500, 7); }),
              HasSubstr("expected at least 501"));
}

TEST(Shards, TrainEvaluateAndResume) {
  const TemporaryDirectory directory;
  const std::string text = write(directory.file("text.txt"), mixed_text(20000));
  const std::string shards = directory.file("shards"), other = directory.file("other");
  ASSERT_EQ(run({"prepare", "--text", text, "--out", shards}).status, 0);
  ASSERT_EQ(run({"prepare", "--text", text, "--out", other, "--validation", "0.2"}).status, 0);
  const std::string whole = directory.file("whole"), out = directory.file("run");
  const Outcome trained = train_tiny(whole, {"--data", shards, "--steps", "20"});
  ASSERT_EQ(trained.status, 0) << trained.errors;
  EXPECT_THAT(trained.out, HasSubstr("data    shards, "));
  EXPECT_THAT(trained.out, HasSubstr("sample 1 of 1"));
  ASSERT_EQ(
      train_tiny(out, {"--data", shards, "--steps", "20", "--checkpoint-every", "5", "--keep", "9"})
          .status,
      0);
  const Outcome resumed = run({"train", "--out", out, "--resume", "10"});
  ASSERT_EQ(resumed.status, 0) << resumed.errors;
  EXPECT_EQ(weights_of(out), weights_of(whole));
  EXPECT_THAT(run({"train", "--out", out, "--resume", "10", "--data", other}).errors,
              HasSubstr("train: the data is shards, "));
  const Outcome evaluated = run({"eval", whole, "--data", shards, "--eval-batches", "1"});
  EXPECT_EQ(evaluated.status, 0) << evaluated.errors;
  EXPECT_THAT(run({"eval", whole}).errors, HasSubstr("expected --text FILE or --data DIR"));
  const std::string bytes = directory.file("bytes");
  ASSERT_EQ(run({"prepare", "--text", text, "--level", "byte", "--out", bytes}).status, 0);
  EXPECT_THAT(run({"eval", whole, "--data", bytes}).errors, HasSubstr("another vocabulary"));
  EXPECT_THAT(train_tiny(directory.file("x"), {"--data", shards, "--text", text}).errors,
              HasSubstr("--data and --text are both given"));
  EXPECT_THAT(train_tiny(directory.file("x"), {"--data", shards, "--level", "byte"}).errors,
              HasSubstr("--level is given without --text"));
  EXPECT_THAT(train_tiny(directory.file("x"), {"--data", shards, "--random-tokens"}).errors,
              HasSubstr("--random-tokens and --data are both given"));
}

}  // namespace
}  // namespace lamina::gpt
