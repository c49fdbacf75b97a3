// SPDX-License-Identifier: MIT
#include "examples/gpt/bpe.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/bpe_trainer.h"
#include "examples/gpt/gpt2_split.h"
#include "examples/gpt/utf8.h"
#include "tests/support/error_of.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <random>
#include <string>
#include <vector>

namespace lamina::data {
namespace {

using lamina::testing::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> pieces_of(std::string_view text) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    pieces.emplace_back(text.substr(0, first_gpt2_piece(text)));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

/// Of the bytes a, b, c, d and some merges.
BpeParts small_parts() {
  return {.tokens = {"a", "b", "c", "d", "ab", "cd", "abcd", "bc", "<end>", "<end><end>"},
          .merges = {{1, 2}, {0, 1}, {2, 3}, {4, 5}},
          .special = {8, 9},
          .split = PieceSplit::none};
}

TEST(Gpt2Split, CutsWordsNumbersAndSigns) {
  EXPECT_THAT(pieces_of("Hello, world 42x!?"),
              ElementsAre("Hello", ",", " world", " 42", "x", "!?"));
  EXPECT_THAT(pieces_of("it's we'LL I'd've 's"),
              ElementsAre("it", "'s", " we", "'", "LL", " I", "'d", "'ve", " '", "s"));
  EXPECT_TRUE(pieces_of("").empty());
}

TEST(Gpt2Split, LeavesTheLastBlankToTheWord) {
  EXPECT_THAT(pieces_of("a   b"), ElementsAre("a", "  ", " b"));
  EXPECT_THAT(pieces_of("a\n\n b"), ElementsAre("a", "\n\n", " b"));
  EXPECT_THAT(pieces_of("a \n\tb  "), ElementsAre("a", " \n", "\t", "b", "  "));
  EXPECT_THAT(pieces_of(" "), ElementsAre(" "));
  EXPECT_THAT(pieces_of("\u3000\u00a0x"), ElementsAre("\u3000", "\u00a0", "x"));
}

TEST(Gpt2Split, KnowsTheBlanksOfUnicode) {
  std::vector<char32_t> blanks = {0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000};
  for (const auto& [first, last] : {std::pair(0x09, 0x0D), std::pair(0x2000, 0x200A)}) {
    for (int blank = first; blank <= last; ++blank)
      blanks.push_back(static_cast<char32_t>(blank));
  }
  const auto after_a_sign = [](char32_t symbol) {
    std::string text = "!";
    append_utf8(symbol, text);
    return pieces_of(text).size();
  };
  for (const char32_t blank : blanks)
    EXPECT_EQ(after_a_sign(blank), 2U) << name_of_symbol(blank);
  for (const char32_t sign : {0x08, 0x0E, 0x1F, 0x180E, 0x200B, 0x2060, 0xFEFF})
    EXPECT_EQ(after_a_sign(sign), 1U) << name_of_symbol(sign);
}

TEST(Gpt2Split, KnowsLettersAndNumbersOfAllScripts) {
  EXPECT_THAT(
      pieces_of("\u00e9t\u00e9\u4e16\u754c \u0967\u0968\u00bd\u2167\U0001F600\u0301"),
      ElementsAre("\u00e9t\u00e9\u4e16\u754c", " \u0967\u0968\u00bd\u2167", "\U0001F600\u0301"));
  EXPECT_THAT(pieces_of("a\U0001C801!\u1c89b"), ElementsAre("a", "\U0001C801!", "\u1c89b"));
}

TEST(Gpt2Split, TakesBytesThatAreNotUtf8ForSigns) {
  EXPECT_THAT(pieces_of("a\xff\x80! b\xc3"), ElementsAre("a", "\xff\x80!", " b", "\xc3"));
}

TEST(Gpt2Cut, GivesPartsWithThePiecesOfTheWhole) {
  const std::vector<std::string> words = {"a",      "it's",   " ",    "\n",     "\t",
                                          "42",     "\u00a0", "!",    "\u3000", "\u754c",
                                          "\u00e9", "\xff",   "\x80", "\xc3",   "\u2009"};
  std::mt19937_64 random(3);
  int cuts = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string text;
    for (int i = 0; i < 12; ++i)
      text += words[random() % words.size()];
    const std::vector<std::string> whole = pieces_of(text);
    for (std::size_t at = 0; at < text.size(); ++at) {
      const std::size_t cut = gpt2_cut(text, at);
      ASSERT_GE(cut, std::max<std::size_t>(at, 1));
      ASSERT_LE(cut, text.size());
      cuts += cut < text.size() ? 1 : 0;
      std::vector<std::string> parts = pieces_of(std::string_view(text).substr(0, cut));
      for (const std::string& piece : pieces_of(std::string_view(text).substr(cut)))
        parts.push_back(piece);
      ASSERT_EQ(parts, whole) << text << ", cut at " << cut;
    }
  }
  EXPECT_GT(cuts, 10000);
  EXPECT_EQ(gpt2_cut("a b", 0), 1U);
  EXPECT_EQ(gpt2_cut("\u754c\n\u754c", 0), 3U);
  EXPECT_EQ(gpt2_cut("\u3000\nx", 0), 5U);
}

TEST(Bpe, MergesByRankNotByPlace) {
  const Bpe bpe(small_parts());
  EXPECT_THAT(bpe.encode("abcd"), ElementsAre(0, 7, 3));  // bc before ab
  EXPECT_THAT(bpe.encode("abd"), ElementsAre(4, 3));
  EXPECT_THAT(bpe.encode("abab"), ElementsAre(4, 4));
  BpeParts parts = small_parts();
  parts.merges.erase(parts.merges.begin());
  EXPECT_THAT(Bpe(parts).encode("abcdab"), ElementsAre(6, 4));
}

TEST(Bpe, TakesTheLongestSpecialTokenFirst) {
  const Bpe bpe(small_parts());
  EXPECT_THAT(bpe.encode("a<end><end><end>b"), ElementsAre(0, 9, 8, 1));
  EXPECT_EQ(bpe.decode(bpe.encode("<end>ab<end>")), "<end>ab<end>");
  EXPECT_THAT(error_of([&] { bpe.encode("ab<end"); }),
              HasSubstr("encode: text has the byte 0x3c at offset 2, expected one of those"));
}

TEST(Bpe, NamesTheByteBehindASpecialToken) {
  const Bpe bpe(small_parts());
  EXPECT_THAT(error_of([&] { bpe.encode("a<end>b\n"); }), HasSubstr("0x0a at offset 7"));
}

TEST(Bpe, RefusesIdsThatDoNotExist) {
  const Bpe bpe(small_parts());
  for (const std::int32_t id : {-1, 10}) {
    EXPECT_THAT(error_of([&] {
                  bpe.decode(std::vector{0, id});
                }),
                HasSubstr(cat("decode: token 1 is ", id, ", expected 0 to 9")));
  }
}

TEST(Bpe, RefusesPartsThatDoNotFit) {
  const auto error_with = [](const auto& change) {
    BpeParts parts = small_parts();
    change(parts);
    return error_of([&] { Bpe bpe(parts); });
  };
  EXPECT_THAT(error_with([](BpeParts& parts) { parts.tokens[1] = ""; }), HasSubstr("1 is empty"));
  EXPECT_THAT(error_with([](BpeParts& parts) { parts.tokens[1] = "a"; }),
              HasSubstr("tokens 0 and 1 have the same bytes"));
  EXPECT_THAT(error_with([](BpeParts& parts) {
                parts.merges[0] = {0, 10};
              }),
              HasSubstr("merge 0 is of tokens 0 and 10"));
  EXPECT_THAT(error_with([](BpeParts& parts) {
                parts.merges[0] = {-1, 0};
              }),
              HasSubstr("expected two from 0 to 9"));
  EXPECT_THAT(error_with([](BpeParts& parts) {
                parts.merges[0] = {8, 0};
              }),
              HasSubstr("that are not special"));
  EXPECT_THAT(error_with([](BpeParts& parts) {
                parts.merges[0] = {0, 0};
              }),
              HasSubstr("merge 0 of tokens 0 and 0 has no token for its result"));
  EXPECT_THAT(error_with([](BpeParts& parts) {
                parts.merges[1] = {1, 2};
              }),
              HasSubstr("merge 1 of tokens 1 and 2 comes twice"));
  EXPECT_THAT(error_with([](BpeParts& parts) { parts.special = {10}; }),
              HasSubstr("special token 10 does not exist"));
  EXPECT_THAT(error_with([](BpeParts& parts) { parts.special = {3}; }),
              HasSubstr("special token 3 is a single byte"));
}

TEST(Bpe, TakesAMegabyteOfOneLetterInNearlyLinearTime) {
  BpeParts parts{.tokens = {"a"}, .merges = {}, .special = {}};
  for (std::int32_t i = 0; i < 12; ++i) {
    parts.merges.emplace_back(i, i);
    parts.tokens.push_back(parts.tokens.back() + parts.tokens.back());
  }
  const Bpe bpe(parts);
  const std::clock_t start = std::clock();  // of this process: others may be at work
  EXPECT_THAT(bpe.encode(std::string((1U << 20U) + 5, 'a')).size(), 258U);  // and 4 + 1
  EXPECT_LT((std::clock() - start) / CLOCKS_PER_SEC, 60);  // a quadratic one takes hours
}

/// Merges the first of the lowest rank, again and again: the definition.
std::vector<std::int32_t> slowly_merged(const BpeParts& parts, const std::string& text) {
  const auto id_of = [&](const std::string& bytes) {
    return static_cast<std::int32_t>(std::find(parts.tokens.begin(), parts.tokens.end(), bytes) -
                                     parts.tokens.begin());
  };
  std::vector<std::int32_t> ids;
  for (const char byte : text)
    ids.push_back(id_of(std::string(1, byte)));
  for (bool is_merged = true; is_merged;) {
    is_merged = false;
    for (const auto& [left, right] : parts.merges) {
      const std::int32_t both[] = {left, right};
      const auto at = std::search(ids.begin(), ids.end(), both, both + 2);
      if (at == ids.end()) continue;
      *at = id_of(parts.tokens[static_cast<std::size_t>(left)] +
                  parts.tokens[static_cast<std::size_t>(right)]);
      ids.erase(at + 1);
      is_merged = true;
      break;
    }
  }
  return ids;
}

TEST(Bpe, MergesAsTheDefinitionSays) {
  std::mt19937 random(1);
  const auto draw = [&](std::size_t below) { return random() % below; };
  for (int round = 0; round < 200; ++round) {
    BpeParts parts{.tokens = {"a", "b", "c"}, .split = PieceSplit::none};
    for (int i = 0; i < 12; ++i) {
      const std::size_t left = draw(parts.tokens.size()), right = draw(parts.tokens.size());
      const std::string bytes = parts.tokens[left] + parts.tokens[right];
      const std::pair merge(static_cast<std::int32_t>(left), static_cast<std::int32_t>(right));
      if (std::count(parts.merges.begin(), parts.merges.end(), merge) > 0) continue;
      parts.merges.push_back(merge);
      if (std::count(parts.tokens.begin(), parts.tokens.end(), bytes) == 0)
        parts.tokens.push_back(bytes);
    }
    std::string text;
    for (std::size_t i = draw(60); i-- > 0;)
      text += static_cast<char>('a' + draw(3));
    EXPECT_EQ(Bpe(parts).encode(text), slowly_merged(parts, text)) << text;
  }
}

TEST(BpeTrainer, MergesTheMostFrequentNeighboursFirst) {
  const Bpe bpe = train_bpe("abab ab ab cd cd", 260);
  const BpeParts& parts = bpe.parts();
  ASSERT_EQ(bpe.size(), 260);
  EXPECT_EQ(parts.tokens[0], "!");  // the order of GPT-2
  EXPECT_EQ(parts.tokens[220], " ");
  EXPECT_EQ(parts.tokens[256], "ab");   // 4 times
  EXPECT_EQ(parts.tokens[257], "cd");   // 2 times, as "ab|ab" once and " |ab", " |cd" twice ...
  EXPECT_EQ(parts.tokens[258], " ab");  // ... but of lower ids
  EXPECT_EQ(parts.tokens[259], "<|endoftext|>");
  EXPECT_THAT(parts.special, ElementsAre(259));
  EXPECT_EQ(bpe.decode(bpe.encode("abab ab ab cd cd")), "abab ab ab cd cd");
}

TEST(BpeTrainer, StopsWhenNothingIsLeftToMerge) {
  const Bpe bpe = train_bpe("aaaa", 1000);
  EXPECT_EQ(bpe.size(), 259);  // aa, aaaa
  EXPECT_EQ(train_bpe("", 300).size(), 257);
  EXPECT_THAT(error_of([] { train_bpe("a", 256); }), HasSubstr("expected at least 257"));
}

TEST(BpeTrainer, GivesATextOneTokenizer) {
  std::string text;
  std::mt19937 random(2);
  for (int i = 0; i < 20000; ++i)
    text += static_cast<char>(random() % 8 == 0 ? ' ' : 'a' + random() % 6);
  const Bpe first = train_bpe(text, 600), again = train_bpe(text, 600);
  EXPECT_EQ(first.parts(), again.parts());
  EXPECT_LT(first.encode(text).size(), text.size() / 2);
  EXPECT_EQ(first.decode(first.encode(text)), text);
}

}  // namespace
}  // namespace lamina::data
