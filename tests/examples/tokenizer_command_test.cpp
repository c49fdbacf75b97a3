// SPDX-License-Identifier: MIT
// lamina-gpt tokenizer, and training with what it made.
#include "examples/gpt/checkpoint.h"
#include "examples/gpt/tokenizer_file.h"
#include "tests/examples/gpt_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace lamina::gpt {
namespace {

using ::testing::HasSubstr;

void write_text(const std::string& path) {
  std::ofstream file(path);
  for (int i = 0; i < 400; ++i)
    file << "the cat and the hat say na\xc3\xafve things " << i << "\n";
}

TEST(TokenizerCommand, LeavesNothingBehindWhereItsFileCannotBeWritten) {
  const TemporaryDirectory directory;
  const std::string text = directory.file("text.txt"), file = directory.file("tokenizer.json");
  write_text(text);
  {
    const SmallFiles full(1000);
    const Outcome outcome = run({"tokenizer", "--text", text, "--vocab", "300", "--out", file});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.errors, HasSubstr(" failed: File too large"));
  }
  const fs::directory_iterator files(directory.file(""));
  EXPECT_EQ(std::distance(begin(files), end(files)), 1);  // the text
}

TEST(TokenizerCommand, MakesATokenizerToTrainSampleAndEvaluateWith) {
  const TemporaryDirectory directory;
  const std::string text = directory.file("text.txt"), file = directory.file("tokenizer.json");
  write_text(text);
  const Outcome made = run({"tokenizer", "--text", text, "--vocab", "300", "--out", file});
  ASSERT_EQ(made.status, 0) << made.errors;
  EXPECT_THAT(made.out, HasSubstr("tokenizer.json: 300 tokens; "));
  const data::Vocabulary vocabulary = data::read_tokenizer(file);
  EXPECT_EQ(vocabulary.size(), 300);

  const std::string out = directory.file("run");
  const Outcome trained = train_tiny(out, {"--text", text, "--tokenizer", file, "--steps", "20"});
  ASSERT_EQ(trained.status, 0) << trained.errors;
  EXPECT_THAT(trained.out, HasSubstr("300 symbols"));
  EXPECT_EQ(load_checkpoint(out).info.vocabulary, vocabulary);
  const Outcome sampled = run({"sample", out, "--prompt", "the cat", "--sample-chars", "5"});
  EXPECT_EQ(sampled.status, 0) << sampled.errors;
  EXPECT_THAT(sampled.out, HasSubstr("the cat"));
  const Outcome unprompted = run({"sample", out, "--sample-chars", "1", "--samples", "1"});
  EXPECT_EQ(unprompted.status, 0) << unprompted.errors;
  EXPECT_FALSE(unprompted.out.starts_with("sample 1 of 1\n\n<|endoftext|>")) << unprompted.out;
  EXPECT_EQ(run({"eval", out, "--text", text, "--eval-batches", "1"}).status, 0);
}

TEST(TokenizerCommand, SaysWhatIsMissing) {
  const TemporaryDirectory directory;
  const std::string text = directory.file("text.txt"), file = directory.file("tokenizer.json");
  write_text(text);
  EXPECT_THAT(run({"tokenizer", "--out", file}).errors, HasSubstr("tokenizer: --text is not"));
  EXPECT_THAT(run({"tokenizer", "--text", text}).errors, HasSubstr("tokenizer: --out is not"));
  EXPECT_THAT(run({"tokenizer", "--text", text, "--out", text}).errors, HasSubstr("exists"));
  EXPECT_EQ(run({"tokenizer", "--text", text, "--out", file, "--vocab", "256"}).status, 2);
  EXPECT_EQ(run({"tokenizer", "--text", directory.file("none"), "--out", file}).status, 1);
  EXPECT_THAT(run({"tokeniser"}).errors, HasSubstr("did you mean tokenizer"));
  EXPECT_THAT(run({"tokenizer", "--vocap", "300"}).errors, HasSubstr("did you mean --vocab"));
  EXPECT_THAT(run({"tokenizer", "--help"}).out, HasSubstr("tokens at most"));
  EXPECT_FALSE(fs::exists(file));
}

}  // namespace
}  // namespace lamina::gpt
