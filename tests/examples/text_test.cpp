// SPDX-License-Identifier: MIT
#include "examples/gpt/text.h"

#include "core/error.h"
#include "tests/support/error_of.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

namespace lamina::data {
namespace {

using lamina::testing::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A directory of its own that is removed at the end of the test.
class TextFiles : public ::testing::Test {
 protected:
  TextFiles()
      : folder_(std::filesystem::path(::testing::TempDir()) /
                (std::string("lamina_text_test_") +
                 ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  ~TextFiles() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }

  std::filesystem::path folder_;
};

TEST(Vocabulary, BuiltinHasNewlineAndPrintableAscii) {
  const Vocabulary vocabulary = Vocabulary::builtin();
  EXPECT_EQ(vocabulary.size(), 96);
  EXPECT_THAT(vocabulary.encode("\n A~"), ElementsAre(0, 1, 'A' - 31, 95));
  EXPECT_THAT(error_of([&] { vocabulary.encode("ab\tc"); }),
              HasSubstr("encode: text has U+0009 at byte 2, expected one of the 96 characters"));
}

TEST(Vocabulary, OfCharactersHoldsTheDistinctOnesInOrder) {
  const std::string text = "z\u00e9\u20aca\U0001F600az";
  const Vocabulary vocabulary = Vocabulary::from_text(text, Level::character);
  EXPECT_EQ(vocabulary.size(), 5);
  const std::vector<std::int32_t> tokens = vocabulary.encode(text);
  EXPECT_THAT(tokens, ElementsAre(1, 2, 3, 0, 4, 0, 1));
  EXPECT_EQ(vocabulary.decode(tokens), text);
}

TEST(Vocabulary, RoundTripsTheBordersOfEveryUtf8Length) {
  const std::string text = "\x01\x7F\u0080\u07FF\u0800\uD7FF\uE000\uFFFF\U00010000\U0010FFFF";
  const Vocabulary vocabulary = Vocabulary::from_text(text, Level::character);
  EXPECT_EQ(vocabulary.size(), 10);
  EXPECT_EQ(vocabulary.decode(vocabulary.encode(text)), text);
}

TEST(Vocabulary, NamesTheByteThatIsNotUtf8) {
  const std::vector<std::string> wrong = {
      "ab\xFFz",             // never a lead byte
      "ab\x80",              // a continuation without a lead
      "ab\xC3",              // cut short
      "ab\xC3(",             // a lead without its continuation
      "ab\xC1\xBF",          // overlong, 2 bytes
      "ab\xE0\x9F\xBF",      // overlong, 3 bytes
      "ab\xF0\x8F\xBF\xBF",  // overlong, 4 bytes
      "ab\xED\xA0\x80",      // a surrogate
      "ab\xF4\x90\x80\x80"   // above U+10FFFF
  };
  for (const std::string& text : wrong) {
    EXPECT_THAT(error_of([&] { Vocabulary::from_text(text, Level::character); }),
                HasSubstr("at offset 2, expected UTF-8"));
  }
  EXPECT_THAT(error_of([&] { Vocabulary::from_text(wrong[0], Level::character); }),
              HasSubstr("vocabulary: text has the byte 0xff"));
}

TEST(Vocabulary, OfBytesTakesAnything) {
  std::string text(256, '\0');
  std::iota(text.begin(), text.end(), '\0');
  const Vocabulary vocabulary = Vocabulary::from_text(text, Level::byte);
  EXPECT_EQ(vocabulary.size(), 256);
  const std::vector<std::int32_t> tokens = vocabulary.encode(text);
  EXPECT_EQ(tokens[255], 255);
  EXPECT_EQ(vocabulary.decode(tokens), text);
}

TEST(Vocabulary, RefusesWhatItDoesNotHold) {
  const Vocabulary vocabulary = Vocabulary::from_text("ab", Level::character);
  EXPECT_THAT(error_of([&] { vocabulary.encode("a\u20ac"); }),
              HasSubstr("U+20AC '\u20ac' at byte 1"));
  const std::vector<std::int32_t> too_large = {0, 2};
  EXPECT_THAT(error_of([&] { vocabulary.decode(too_large); }),
              HasSubstr("decode: token 1 is 2, expected 0 to 1"));
  const std::vector<std::int32_t> negative = {-1};
  EXPECT_THROW(vocabulary.decode(negative), Error);
  EXPECT_THROW(Vocabulary::from_text("", Level::byte), Error);
}

TEST(Vocabulary, SurvivesJson) {
  for (const Vocabulary& vocabulary :
       {Vocabulary::builtin(), Vocabulary::from_text("h\u00e9llo", Level::character),
        Vocabulary::from_text("x", Level::byte)}) {
    const std::string stored = vocabulary.to_json().dump();
    EXPECT_EQ(Vocabulary::from_json(nlohmann::json::parse(stored)), vocabulary) << stored;
  }
}

TEST(Vocabulary, RefusesJsonOfSomethingElse) {
  for (const char* text : {"{}", "[]", R"({"level": "word"})", R"({"level": "character"})",
                           R"({"level": "character", "symbols": []})",
                           R"({"level": "character", "symbols": [66, 65]})",
                           R"({"level": "character", "symbols": [55296]})",
                           R"({"level": "character", "symbols": "a"})"}) {
    EXPECT_THAT(error_of([&] { Vocabulary::from_json(nlohmann::json::parse(text)); }),
                HasSubstr("vocabulary: "))
        << text;
  }
}

TEST_F(TextFiles, AreJoinedInTheGivenOrder) {
  const std::vector<std::filesystem::path> paths = {write("b", "one\r\n"), write("a", "two")};
  EXPECT_EQ(read_text_files(paths), "one\r\ntwo");
}

TEST_F(TextFiles, AreNamedWhenTheyCannotBeRead) {
  const auto error_for = [](const std::filesystem::path& path) {
    return error_of([&] { read_text_files(std::vector{path}); });
  };
  EXPECT_THAT(error_for(folder_ / "absent"), HasSubstr("absent does not exist"));
  EXPECT_THAT(error_for(folder_), HasSubstr("is a directory"));
  EXPECT_THAT(error_for(write("empty", "")), HasSubstr("empty has 0 bytes"));
}

TEST(SplitTokens, GivesNineTenthsToTraining) {
  std::vector<std::int32_t> tokens(109);
  std::iota(tokens.begin(), tokens.end(), 0);
  const TokenSplit split = split_tokens(tokens, 10);
  ASSERT_EQ(split.train.size(), 98U);  // floor(0.9 * 109)
  ASSERT_EQ(split.validation.size(), 11U);
  EXPECT_EQ(split.train.back(), 97);
  EXPECT_EQ(split.validation.front(), 98);
}

TEST(SplitTokens, RefusesTextShorterThanAWindow) {
  const std::vector<std::int32_t> tokens(109);
  EXPECT_THAT(error_of([&] { split_tokens(tokens, 11); }),
              HasSubstr("text: 109 tokens leave 11 for the smaller split, expected at least 12"));
}

}  // namespace
}  // namespace lamina::data
