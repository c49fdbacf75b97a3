// SPDX-License-Identifier: MIT
#include "examples/gpt/tokenizer_file.h"

#include "core/error.h"
#include "core/json.h"
#include "examples/gpt/bpe_files.h"
#include "examples/gpt/bpe_trainer.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/error_of.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lamina::data {
namespace {

using lamina::testing::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

Bpe trained() {
  return train_bpe("the cat and the hat and the bat", 270);
}

TEST(BpeFiles, WriteBytesAsPrintableCharacters) {
  EXPECT_EQ(symbols_of(" the\n"), "\u0120the\u010a");
  std::string all;
  for (int byte = 0; byte < 256; ++byte)
    all.push_back(static_cast<char>(byte));
  EXPECT_EQ(bytes_of_symbols(symbols_of(all)), all);
  EXPECT_EQ(bytes_of_symbols("a b"), std::nullopt);
  EXPECT_EQ(gpt2_byte_order()[0], '!');
  EXPECT_EQ(gpt2_byte_order()[188], 0);
  EXPECT_EQ(gpt2_byte_order()[255], 0xAD);
}

TEST(BpeFiles, ReadWhatTheyWrote) {
  const Bpe bpe = trained();
  EXPECT_EQ(bpe_from_json(bpe_json(bpe)).parts(), bpe.parts());
}

TEST(BpeFiles, TakeMergesAsPairsToo) {
  Json json = bpe_json(trained());
  for (Json& merge : json["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  EXPECT_EQ(bpe_from_json(json).parts(), trained().parts());
}

TEST(BpeFiles, MergesAloneDetermineTheIds) {
  const Bpe bpe = bpe_from_merges("#version: 0.2\n\u0120 t\nh e\n\u0120t he\n", std::nullopt);
  EXPECT_EQ(bpe.size(), 260);
  EXPECT_THAT(bpe.encode("a the<|endoftext|>"), ElementsAre(64, 258, 259));
  EXPECT_EQ(bpe.parts().tokens[0], "!");
}

TEST(BpeFiles, TakeTheIdsOfAVocabularyBesideTheMerges) {
  const std::string vocab = R"({"b": 0, "a": 1, "ab": 2, "<end>": 3})";
  const Bpe bpe = bpe_from_merges("a b", vocab);
  EXPECT_THAT(bpe.encode("abba<end>"), ElementsAre(2, 0, 1, 3));
  EXPECT_THAT(error_of([] { bpe_from_merges("a b", R"({"a": 0, "ab": 1})"); }),
              HasSubstr("merge 0 is of \"a\" and \"b\", expected two tokens"));
  EXPECT_THAT(error_of([] { bpe_from_merges("", R"({"a": 0, "b": 2})"); }),
              HasSubstr("id 1 has no token"));
  EXPECT_THAT(error_of([] { bpe_from_merges("", R"({"a": 0, "a": 1})"); }),
              HasSubstr("has \"a\" twice"));
  EXPECT_THAT(error_of([] { bpe_from_merges("", "[]"); }), HasSubstr("vocab.json is no object"));
}

TEST(BpeFiles, NameTheMergeThatIsNone) {
  for (const char* line : {"ab", "a b c", " b", "a ", "a b\n\nb a", "a  b"}) {
    EXPECT_THAT(error_of([&] { bpe_from_merges(line, std::nullopt); }),
                HasSubstr("expected two tokens with a blank between"))
        << line;
  }
}

TEST(BpeFiles, NameTheFieldThatIsNotImplemented) {
  const auto error_with = [](const char* path, const Json& value) {
    Json json = bpe_json(trained());
    json[Json::json_pointer(path)] = value;
    return error_of([&] { bpe_from_json(json); });
  };
  EXPECT_EQ(error_with("/padding", nullptr), "no error");
  EXPECT_THAT(error_with("/model/type", "Unigram"),
              HasSubstr("model.type is \"Unigram\", expected \"BPE\""));
  EXPECT_THAT(error_with("/model/dropout", 0.1), HasSubstr("model.dropout is 0.1"));
  EXPECT_THAT(error_with("/model/ignore_merges", true), HasSubstr("model.ignore_merges is true"));
  EXPECT_THAT(error_with("/model/vocab", 1), HasSubstr("no model with vocab and merges"));
  EXPECT_THAT(error_with("/model/vocab/the", "x"), HasSubstr("the id of \"the\" is \"x\""));
  EXPECT_THAT(error_with("/model/vocab/the", -1), HasSubstr("is -1, expected an integer from 0"));
  EXPECT_THAT(error_with("/model/vocab/zz", 0), HasSubstr("have the same id 0"));
  EXPECT_THAT(error_with("/model/vocab/z z", 270), HasSubstr("stands for no byte"));
  EXPECT_THAT(error_with("/model/merges/0", "t"), HasSubstr("merge 0 is \"t\""));
  EXPECT_THAT(error_with("/model/merges/0", 3), HasSubstr("merge 0 is 3, expected two tokens"));
  EXPECT_THAT(error_with("/model/merges/0", {"t", "zz"}), HasSubstr("of \"t\" and \"zz\""));
  EXPECT_THAT(error_with("/normalizer", {{"type", "NFC"}}), HasSubstr("normalizer is {"));
  EXPECT_THAT(error_with("/pre_tokenizer", nullptr), HasSubstr("pre_tokenizer is null"));
  EXPECT_THAT(error_with("/pre_tokenizer/add_prefix_space", true),
              HasSubstr("pre_tokenizer.add_prefix_space is true"));
  EXPECT_THAT(error_with("/post_processor", {{"type", "TemplateProcessing"}}),
              HasSubstr("post_processor is {"));
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json start = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  EXPECT_EQ(error_with("/post_processor", {{"type", "TemplateProcessing"}, {"single", {text}}}),
            "no error");
  EXPECT_THAT(
      error_with("/post_processor", {{"type", "TemplateProcessing"}, {"single", {start, text}}}),
      HasSubstr("post_processor is {"));
  EXPECT_THAT(error_with("/decoder", {{"type", "WordPiece"}}), HasSubstr("decoder is {"));
  EXPECT_THAT(error_with("/added_tokens/0/lstrip", true), HasSubstr("lstrip is true"));
  EXPECT_THAT(error_with("/added_tokens/0/id", 3), HasSubstr("have the same id 3"));
  EXPECT_THAT(error_with("/added_tokens", 3), HasSubstr("added_tokens is 3"));
  EXPECT_THAT(error_of([] { bpe_from_json(Json::array()); }), HasSubstr("there is no model"));
}

TEST(TokenizerFile, HoldsVocabulariesOfEveryLevel) {
  for (const Vocabulary& vocabulary :
       {Vocabulary::builtin(), Vocabulary::from_text("h\u00e9llo \U0001F600", Level::character),
        Vocabulary::of_bytes(), Vocabulary::from_bpe(trained())}) {
    const std::string text = tokenizer_json(vocabulary).dump();
    EXPECT_EQ(vocabulary_from_tokenizer(parse_json(text, "test")), vocabulary) << text;
  }
}

TEST(TokenizerFile, OfCharactersRefusesOtherTokens) {
  for (const char* change : {R"({"ab": 0})", R"({"a": 1})", R"({"a": "0"})", R"({"b": 0, "a": 1})",
                             R"({"": 0})", "{}"}) {
    Json json = tokenizer_json(Vocabulary::builtin());
    json["model"]["vocab"] = Json::parse(change);
    EXPECT_THAT(error_of([&] { vocabulary_from_tokenizer(json); }), HasSubstr("expected"))
        << change;
  }
}

TEST(TokenizerFile, IsFoundInADirectory) {
  const gpt::TemporaryDirectory directory;
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(directory.file(name), std::ios::binary) << text;
  };
  EXPECT_THAT(error_of([&] { read_tokenizer(directory.file("")); }),
              HasSubstr("neither tokenizer.json nor merges.txt"));
  write("merges.txt", "a b\n");
  EXPECT_EQ(read_tokenizer(directory.file("")).size(), 258);
  write("vocab.json", R"({"b": 0, "a": 1, "ab": 2})");
  EXPECT_EQ(read_tokenizer(directory.file("merges.txt")).size(), 3);
  write("tokenizer.json", tokenizer_json(Vocabulary::of_bytes()).dump());
  EXPECT_EQ(read_tokenizer(directory.file("")), Vocabulary::of_bytes());
  write("tokenizer.json", "{");
  EXPECT_THAT(error_of([&] { read_tokenizer(directory.file("")); }),
              HasSubstr("tokenizer.json: tokenizer is not JSON"));
  EXPECT_THAT(error_of([&] { read_tokenizer(directory.file("none.json")); }),
              HasSubstr("does not exist"));
}

}  // namespace
}  // namespace lamina::data
