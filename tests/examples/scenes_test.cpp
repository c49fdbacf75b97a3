// SPDX-License-Identifier: MIT
#include "examples/gpt/scenes.h"

#include "core/error.h"
#include "examples/gpt/text.h"
#include "examples/gpt/words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace lamina::data {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kScenes = 10000;

struct Preset {
  const char* name;
  SceneOptions options;
};

void PrintTo(const Preset& preset, std::ostream* out) {
  *out << preset.name;
}

class ScenesOfPreset : public ::testing::TestWithParam<Preset> {
 protected:
  Scenes scenes_{GetParam().options};
};

INSTANTIATE_TEST_SUITE_P(Cpu, ScenesOfPreset,
                         ::testing::Values(Preset{"standard", SceneOptions::standard()},
                                           Preset{"easy", SceneOptions::easy()}),
                         [](const auto& preset) { return preset.param.name; });

/// FNV-1a, 64 bits.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : text)
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211U;
  return hash;
}

std::string first_megabyte(const Scenes& scenes) {
  constexpr std::size_t kMegabyte = std::size_t{1} << 20U;
  std::string text;
  for (std::uint64_t i = 0; text.size() < kMegabyte; ++i) {
    scenes.append_text(Split::train, i, text);
  }
  text.resize(kMegabyte);
  return text;
}

std::string text_of(const Scenes& scenes, Split split, std::uint64_t index) {
  std::string text;
  scenes.append_text(split, index, text);
  return text;
}

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST_P(ScenesOfPreset, SurprisalOfCharactersSumsToThatOfChoices) {
  // scene() itself throws when the alternatives of a choice are not prefix-free.
  for (std::uint64_t i = 0; i < kScenes; ++i) {
    const Scene scene = scenes_.scene(Split::train, i);
    ASSERT_EQ(scene.surprisal.size(), scene.text.size());
    ASSERT_EQ(scene.classes.size(), scene.text.size());
    double choices = 0;
    for (const ChoiceRecord& record : scene.choices) {
      choices += std::log(static_cast<double>(record.total) / record.weight);
    }
    ASSERT_NEAR(sum(scene.surprisal), choices, 1e-9 * choices) << scene.text;
  }
}

TEST_P(ScenesOfPreset, ParsingRecoversTheChoices) {
  for (std::uint64_t i = 0; i < kScenes; ++i) {
    const Scene scene = scenes_.scene(Split::train, i);
    const std::optional<Scene> parsed = scenes_.parse(scene.text);
    ASSERT_TRUE(parsed.has_value()) << scene.text;
    ASSERT_EQ(parsed->choices, scene.choices) << scene.text;
    ASSERT_EQ(parsed->surprisal, scene.surprisal);
    ASSERT_EQ(parsed->classes, scene.classes);
  }
}

TEST_P(ScenesOfPreset, AreOfTheStatedLengthsAndAlphabet) {
  const Vocabulary vocabulary = Vocabulary::builtin();
  for (std::uint64_t i = 0; i < kScenes; ++i) {
    const std::string text = text_of(scenes_, Split::validation, i);
    ASSERT_LE(text.size(), static_cast<std::size_t>(Scenes::kLongestScene));
    ASSERT_GE(text.size(), static_cast<std::size_t>(Scenes::kShortestScene));
    ASSERT_TRUE(text.starts_with(Scenes::kPrompt));
    ASSERT_EQ(vocabulary.decode(vocabulary.encode(text)), text);
  }
}

TEST_P(ScenesOfPreset, AreTheSameOnEveryPlatform) {
  const bool is_easy = GetParam().options.names == SceneOptions::easy().names;
  EXPECT_EQ(hash_of(first_megabyte(scenes_)),
            is_easy ? 5453591302388427543U : 17154646573939758516U);
}

TEST_P(ScenesOfPreset, DoNotDependOnTheOrderOfRequests) {
  std::map<std::uint64_t, std::string> forward;
  for (std::uint64_t i = 0; i < 50; ++i)
    forward[i] = scenes_.scene(Split::train, i).text;
  const Scenes other(GetParam().options);
  for (std::uint64_t i = 50; i-- > 0;) {
    EXPECT_EQ(text_of(other, Split::train, i), forward[i]);
  }
  EXPECT_NE(text_of(Scenes(GetParam().options, 7), Split::train, 0), forward[0]);
  EXPECT_NE(text_of(scenes_, Split::train, std::uint64_t{1} << 32U), forward[0]);
}

TEST_P(ScenesOfPreset, AreDisjointBetweenSplits) {
  std::set<std::string> seen;
  for (const Split split : {Split::train, Split::validation, Split::test}) {
    for (std::uint64_t i = 0; i < kScenes; ++i)
      seen.insert(text_of(scenes_, split, i));
  }
  EXPECT_EQ(seen.size(), 3 * kScenes);  // equal by chance: about e^-60 a pair
}

/// One way a choice was offered: its total weight tells the sets of alternatives apart.
using Offer = std::tuple<Choice, std::int32_t, std::uint32_t>;

struct Cell {
  std::uint32_t weight = 0;
  std::int64_t count = 0;
};

TEST_P(ScenesOfPreset, ChoicesHaveTheirStatedProbabilities) {
  std::map<Offer, std::map<std::int32_t, Cell>> offers;
  for (std::uint64_t i = 0; i < kScenes; ++i) {
    for (const ChoiceRecord& record : scenes_.scene(Split::test, i).choices) {
      Cell& cell = offers[{record.choice, record.alternatives, record.total}][record.picked];
      if (cell.count > 0) {
        ASSERT_EQ(cell.weight, record.weight);
      }
      cell.weight = record.weight;
      ++cell.count;
    }
  }
  std::set<Choice> tested;
  for (const auto& [offer, cells] : offers) {
    const auto total = static_cast<double>(std::get<2>(offer));
    std::int64_t samples = 0;
    for (const auto& [picked, cell] : cells)
      samples += cell.count;
    if (samples < 1000 || std::get<1>(offer) == 1) continue;
    ASSERT_EQ(cells.size(), static_cast<std::size_t>(std::get<1>(offer)));
    double chi_squared = 0, weights = 0;
    for (const auto& [picked, cell] : cells) {
      const double expected = static_cast<double>(samples) * cell.weight / total;
      chi_squared += std::pow(static_cast<double>(cell.count) - expected, 2) / expected;
      weights += cell.weight;
    }
    EXPECT_EQ(weights, total);
    // Wilson-Hilferty: the cube root of chi-squared per degree of freedom is nearly normal.
    const double freedom = static_cast<double>(cells.size()) - 1;
    const double spread = 2.0 / (9.0 * freedom);
    const double deviation =
        (std::cbrt(chi_squared / freedom) - (1.0 - spread)) / std::sqrt(spread);
    EXPECT_LT(deviation, 4.5) << "choice " << static_cast<int>(std::get<0>(offer)) << " of "
                              << std::get<1>(offer) << ", " << samples << " samples";
    tested.insert(std::get<0>(offer));
  }
  EXPECT_GE(tested.size(), 19U);
}

TEST_P(ScenesOfPreset, WindowsCarryTheOracleOfTheirTargets) {
  const std::int64_t targets = 1500;  // longer than any scene
  const Vocabulary vocabulary = Vocabulary::builtin();
  const Window window = scenes_.window(Split::validation, 3, targets);
  ASSERT_EQ(window.tokens.size(), 1501U);
  ASSERT_EQ(window.surprisal.size(), 1500U);
  ASSERT_EQ(window.classes.size(), 1500U);
  std::vector<std::int32_t> tokens(1501);
  scenes_.window(Split::validation, 3, tokens);
  EXPECT_EQ(tokens, window.tokens);

  const std::string text = vocabulary.decode(window.tokens);
  const std::size_t end = text.find("---\n\n") + 5;
  const std::optional<Scene> scene = scenes_.parse(text.substr(0, end));
  ASSERT_TRUE(scene.has_value());
  for (std::size_t i = 1; i < end; ++i) {
    EXPECT_EQ(window.surprisal[i - 1], static_cast<float>(scene->surprisal[i]));
    EXPECT_EQ(window.classes[i - 1], scene->classes[i]);
  }
  EXPECT_EQ(text[end], '[');
  EXPECT_EQ(window.surprisal[end - 1], 0.0F);  // a scene always follows
  EXPECT_GT(window.surprisal[end], 0.0F);      // in a place that is not known
}

TEST_P(ScenesOfPreset, WindowsShareNoScene) {
  constexpr std::int64_t kTargets = 1024;
  std::set<std::string> headers;
  std::size_t count = 0;
  const Vocabulary vocabulary = Vocabulary::builtin();
  for (std::uint64_t i = 0; i < 200; ++i) {
    std::string text = vocabulary.decode(scenes_.window(Split::train, i, kTargets).tokens);
    for (std::size_t end; (end = text.find("---\n\n")) != std::string::npos; ++count) {
      headers.insert(text.substr(0, end));
      text.erase(0, end + 5);
    }
  }
  EXPECT_EQ(headers.size(), count);
  EXPECT_GT(count, 200U);
}

TEST_P(ScenesOfPreset, JudgeFindsNothingWrongInGeneratedText) {
  std::string text;
  for (std::uint64_t i = 0; i < 500; ++i)
    text += text_of(scenes_, Split::test, i);
  const SampleReport report = scenes_.judge(text);
  EXPECT_GT(report.sentences, 4000);
  EXPECT_EQ(report.grammatical, report.sentences);
  EXPECT_GT(report.recalls, 2000);
  EXPECT_EQ(report.recalls_correct, report.recalls);
  EXPECT_GT(report.sums, 1000);
  EXPECT_EQ(report.sums_correct, report.sums);
  EXPECT_GT(report.rhymes, 400);
  EXPECT_EQ(report.rhymes_kept, report.rhymes);
}

TEST_P(ScenesOfPreset, JudgeIgnoresOnlyTheSentenceThatIsCutOff) {
  const std::string text = text_of(scenes_, Split::test, 1);
  std::int64_t before = 0;
  for (std::size_t length = 0; length <= text.size(); ++length) {
    const SampleReport report = scenes_.judge(std::string_view(text).substr(0, length));
    ASSERT_EQ(report.grammatical, report.sentences) << text.substr(0, length);
    ASSERT_GE(report.sentences, before);
    before = report.sentences;
  }
  EXPECT_GE(before, 4);
}

struct DocumentedFloor {
  bool is_easy;
  std::int64_t targets;
  double nats;
};

TEST(Scenes, FloorsAreThoseOfTheDocumentation) {
  const Scenes standard, easy(SceneOptions::easy());
  for (const DocumentedFloor& documented :
       {DocumentedFloor{false, 64, 0.2968}, DocumentedFloor{false, 128, 0.1968},
        DocumentedFloor{false, 256, 0.1667}, DocumentedFloor{false, 512, 0.1569},
        DocumentedFloor{false, 1024, 0.1522}, DocumentedFloor{true, 64, 0.2141},
        DocumentedFloor{true, 128, 0.1446}, DocumentedFloor{true, 256, 0.1255},
        DocumentedFloor{true, 512, 0.1196}, DocumentedFloor{true, 1024, 0.1169}}) {
    const Scenes& scenes = documented.is_easy ? easy : standard;
    const Estimate floor = scenes.floor(Split::train, 0, 4000, documented.targets);
    EXPECT_LT(floor.standard_error, 0.0011);
    EXPECT_NEAR(floor.mean, documented.nats, 0.0005 + 3 * floor.standard_error)
        << documented.targets;
  }
}

TEST(Scenes, SurprisalOfACharacterIsMarginalOverTheWordsThatFit) {
  const Scenes scenes;
  double total = 0;
  for (std::size_t i = 0; i < words::kPlaces.size(); ++i)
    total += words::kRankWeights[i];
  for (std::uint64_t index = 0; index < 200; ++index) {
    const Scene scene = scenes.scene(Split::train, index);
    double before = total;
    for (std::size_t length = 1; scene.text[length] != ','; ++length) {
      double after = 0;
      for (std::size_t i = 0; i < words::kPlaces.size(); ++i) {
        if (words::kPlaces[i].starts_with(scene.text.substr(1, length))) {
          after += words::kRankWeights[i];
        }
      }
      ASSERT_NEAR(scene.surprisal[length], std::log(before / after), 1e-12);
      before = after;
    }
  }
}

TEST(Scenes, WordListsArePrefixFreeWithTheirDelimiters) {
  // Two words of a list share no prefix with a delimiter that contains no letter, if they differ.
  const auto expect_words = [](std::span<const std::string_view> list) {
    EXPECT_EQ(std::set<std::string_view>(list.begin(), list.end()).size(), list.size());
    for (const std::string_view word : list) {
      EXPECT_TRUE(std::all_of(word.begin(), word.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      })) << word;
    }
  };
  expect_words(words::kNames);
  expect_words(words::kAdjectives);
  expect_words(words::kObjects);
  expect_words(words::kPlaces);
  expect_words(words::kNumbers);
  expect_words(words::kTimes);
  expect_words(words::kRhymes);
  expect_words(words::kThings);
  // Things are followed by the s of their plural.
  for (const std::string_view a : words::kThings) {
    for (const std::string_view b : words::kThings) {
      EXPECT_TRUE(a == b || !a.starts_with(std::string(b) + "s")) << a << ' ' << b;
    }
  }
}

TEST(Scenes, RankWeightsFollowTheirPowerLaw) {
  for (std::size_t rank = 0; rank < words::kRankWeights.size(); ++rank) {
    EXPECT_EQ(words::kRankWeights[rank],
              std::lround(10000 * std::pow(static_cast<double>(rank + 2), -0.7)));
  }
}

TEST(Scenes, RefuseOptionsWithoutEnoughWords) {
  EXPECT_THROW(Scenes({.names = 2}), Error);
  EXPECT_THROW(Scenes({.places = 17}), Error);
  EXPECT_THROW(Scenes({.adjectives = 3, .objects = 10}), Error);
  EXPECT_THROW(SceneOptions::preset("hard"), Error);
  EXPECT_THROW(Scenes().window(Split::train, 0, 0), Error);
  EXPECT_EQ(SceneOptions::preset("easy").names, 8);
  EXPECT_EQ(SceneOptions::preset("standard").names, 24);
}

TEST(Scenes, SmallestListsMakeScenes) {
  const Scenes scenes({.names = 3, .adjectives = 2, .objects = 16, .places = 2, .things = 1});
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const Scene scene = scenes.scene(Split::train, i);
    ASSERT_EQ(scenes.parse(scene.text)->choices, scene.choices);
  }
}

TEST(Scenes, ParseRefusesOtherText) {
  const Scenes scenes;
  const std::string text = text_of(scenes, Split::train, 0);
  EXPECT_TRUE(scenes.parse(text));
  EXPECT_FALSE(scenes.parse(text + "["));
  EXPECT_FALSE(scenes.parse(text.substr(0, text.size() - 1)));
  EXPECT_FALSE(scenes.parse(""));
  EXPECT_FALSE(scenes.parse("[moon, dawn]\n\n"));
}

/// A correct scene in which every kind of sentence occurs.
constexpr std::string_view kJudged =
    "[mill, dawn]\n\n"
    "Ada:\nI put a red kettle in the harbor.\n\n"
    "Bram:\nGood morning, Ada. Where is the red kettle?\n\n"
    "Ada:\nIt is in the harbor. I have nine pears. Take two of them.\n\n"
    "Bram:\nThank you, Ada. Now you have seven pears and I have two. "
    "I made an amber lantern for Cora.\n\n"
    "Ada:\nWho keeps the amber lantern?\n\n"
    "Bram:\nCora does. Sing with me: stone and sea, bone and me!\n\n"
    "Ada:\nI moved the red kettle to the orchard.\n---\n\n";

SampleReport judge_with(std::string_view right, std::string_view wrong) {
  std::string text(kJudged);
  const std::size_t at = text.find(right);
  EXPECT_NE(at, std::string::npos) << right;
  text.replace(at, right.size(), wrong);
  return Scenes().judge(text);
}

TEST(SampleReport, CountsEverySentenceOfACorrectScene) {
  const SampleReport report = Scenes().judge(kJudged);
  EXPECT_EQ(report.sentences, 7);
  EXPECT_EQ(report.grammatical, 7);
  EXPECT_EQ(report.recalls, 5);  // morning, Ada, harbor, Ada, Cora
  EXPECT_EQ(report.recalls_correct, 5);
  EXPECT_EQ(report.sums, 2);
  EXPECT_EQ(report.sums_correct, 2);
  EXPECT_EQ(report.rhymes, 2);
  EXPECT_EQ(report.rhymes_kept, 2);
  EXPECT_EQ(report.text(),
            "100.0% of 7 sentences grammatical, 100.0% of 5 answers correct, 100.0% of 2 sums "
            "correct, 100.0% of 2 rhymes kept");
  EXPECT_EQ(Scenes().judge("").text(), "no complete sentence");
}

TEST(SampleReport, FindsWrongAnswersWithoutCallingThemUngrammatical) {
  for (const auto& [right, wrong] : {std::pair{"It is in the harbor", "It is in the mill"},
                                     {"Cora does", "Dov does"},
                                     {"Good morning", "Good evening"},
                                     {"Thank you, Ada", "Thank you, Bram"}}) {
    const SampleReport report = judge_with(right, wrong);
    EXPECT_EQ(report.grammatical, 7) << wrong;
    EXPECT_EQ(report.recalls, 5) << wrong;
    EXPECT_EQ(report.recalls_correct, 4) << wrong;
    EXPECT_EQ(report.sums_correct, 2) << wrong;
  }
}

TEST(SampleReport, FindsWrongSumsAndBrokenRhymes) {
  const SampleReport sum = judge_with("seven pears", "six pears");
  EXPECT_EQ(sum.grammatical, 7);
  EXPECT_EQ(sum.sums, 2);
  EXPECT_EQ(sum.sums_correct, 1);
  const SampleReport rhyme = judge_with("bone and me!", "bone and light!");
  EXPECT_EQ(rhyme.grammatical, 7);
  EXPECT_EQ(rhyme.rhymes, 2);
  EXPECT_EQ(rhyme.rhymes_kept, 1);
}

struct Mistake {
  const char* right;
  const char* wrong;
  std::int64_t grammatical;  // of 7
};

TEST(SampleReport, FindsUngrammaticalSentencesAndGoesOn) {
  for (const Mistake& mistake : {
           Mistake{"seven pears", "seven pear", 6},                         // agreement
           Mistake{"Where is the red kettle", "Where is the red drum", 6},  // no such thing
           Mistake{"moved the red kettle", "moved the amber lantern", 6},   // kept, not placed
           Mistake{"to the orchard", "to the harbor", 6},                   // it is there already
           Mistake{"Take two", "Take nine", 6},                             // nothing would be left
           Mistake{"Sing with me", "Sing with us", 6},                      // no such sentence
           Mistake{"Cora does.", "I do.", 6},                               // no such reply
           Mistake{"Ada:\nI moved", "Bram:\nI moved", 6},                   // not the next speaker
           Mistake{"Ada:\nWho", "Bram:\nWho",
                   5},  // nor is Bram after Bram in the turn that follows
           // What a sentence that was not understood would have introduced is unknown later.
           Mistake{"amber lantern for Cora", "amber lantern for Ada", 5},
           Mistake{"I put a red", "I put an red", 4},
       }) {
    const SampleReport report = judge_with(mistake.right, mistake.wrong);
    EXPECT_EQ(report.sentences, 7) << mistake.wrong;
    EXPECT_EQ(report.grammatical, mistake.grammatical) << mistake.wrong;
  }
}

TEST(SampleReport, GoesOnWithTheNextSceneAfterABrokenOne) {
  const std::string text = "[mill, never]\n\nAda:\nHello.\n---\n\n" + std::string(kJudged);
  const SampleReport report = Scenes().judge(text);
  EXPECT_EQ(report.sentences, 9);  // the header, the turn, and seven good ones
  EXPECT_EQ(report.grammatical, 7);
  const SampleReport noise = Scenes().judge("qwe rty");
  EXPECT_EQ(noise.sentences, 1);
  EXPECT_EQ(noise.grammatical, 0);
}

TEST(Estimate, IsTheMeanAndItsStandardError) {
  const std::vector<double> values = {1, 2, 3, 6};
  const Estimate result = estimate(values);
  EXPECT_DOUBLE_EQ(result.mean, 3);
  EXPECT_DOUBLE_EQ(result.standard_error, std::sqrt(14.0 / 3 / 4));
  EXPECT_EQ(estimate(std::vector<double>{5}).standard_error, 0);
}

TEST(CharClassNames, AreDistinct) {
  std::set<std::string_view> names;
  for (int i = 0; i < kCharClasses; ++i)
    names.insert(name_of(static_cast<CharClass>(i)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(kCharClasses));
}

}  // namespace
}  // namespace lamina::data
