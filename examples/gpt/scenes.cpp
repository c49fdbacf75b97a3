// SPDX-License-Identifier: MIT
// Draws scenes with their exact oracle, and parses them. Sampler writes text alone; Recorder keeps
// choices and surprisals as well, picking by Draw (random numbers) or by Match (given text).
#include "examples/gpt/scenes.h"

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"
#include "examples/gpt/scenes_grammar.h"
#include "examples/gpt/words.h"

#include <algorithm>
#include <cmath>

namespace lamina::data {

namespace {

std::vector<Alternative> ranked(WordList list, int count) {
  std::vector<Alternative> result;
  for (int i = 0; i < count; ++i) {
    const auto rank = static_cast<std::size_t>(i);
    result.push_back({list[rank], words::kRankWeights[rank], i});
  }
  return result;
}

std::vector<Alternative> uniform(WordList list) {
  std::vector<Alternative> result;
  for (std::size_t i = 0; i < list.size(); ++i) {
    result.push_back({list[i], 1, static_cast<int>(i)});
  }
  return result;
}

void expect_count(std::string_view list, int count, int least, std::size_t most) {
  if (count < least || count > static_cast<int>(most)) {
    throw Error(cat("scenes: ", list, " is ", count, ", expected ", least, " to ", most,
                    " (the words of examples/gpt/words.h)"));
  }
}

std::int32_t token_of(char c) {
  return c == '\n' ? 0 : static_cast<std::int32_t>(c) - 31;
}

std::uint32_t total_weight(Alternatives alternatives) {
  std::uint32_t total = 0;
  for (const Alternative& alternative : alternatives)
    total += alternative.weight;
  return total;
}

/// Draws alternatives with probability weight / total exactly.
class Draw {
 public:
  Draw(std::uint64_t seed, Split split, std::uint64_t index)
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U)},
        counter_{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32U),
                 static_cast<std::uint32_t>(split), 0} {}

  std::size_t pick(Alternatives alternatives, std::string_view /*tail*/) {
    std::uint32_t left = below(total_weight(alternatives));
    std::size_t picked = 0;
    while (left >= alternatives[picked].weight)
      left -= alternatives[picked++].weight;
    return picked;
  }

  void fixed(std::string_view /*text*/) {}

 private:
  /// Uniform in [0, bound), without bias: Lemire 2019, https://arxiv.org/abs/1805.10941.
  std::uint32_t below(std::uint32_t bound) {
    std::uint64_t product = std::uint64_t{next()} * bound;
    if (static_cast<std::uint32_t>(product) < bound) {
      const std::uint32_t threshold = (0U - bound) % bound;
      while (static_cast<std::uint32_t>(product) < threshold) {
        product = std::uint64_t{next()} * bound;
      }
    }
    return static_cast<std::uint32_t>(product >> 32U);
  }

  std::uint32_t next() {
    if (used_ == words_.size()) {
      words_ = philox(counter_, key_);
      ++counter_[3];
      used_ = 0;
    }
    return words_[used_++];
  }

  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> words_{};
  std::size_t used_ = 4;
};

/// Text alone.
class Sampler {
 public:
  Sampler(Draw draw, std::string& text) : draw_(draw), text_(text), start_(text.size()) {}

  const Alternative& choose(Choice, Alternatives alternatives, std::string_view tail, CharClass) {
    const Alternative& picked = alternatives[draw_.pick(alternatives, tail)];
    text_.append(picked.text).append(tail);
    return picked;
  }

  void text(std::string_view text, CharClass) { text_.append(text); }

  bool word(std::string_view expected, CharClass, WordList) {
    text_.append(expected);
    return true;
  }

  std::int64_t length() const { return static_cast<std::int64_t>(text_.size() - start_); }

 private:
  Draw draw_;
  std::string& text_;
  std::size_t start_;
};

/// Text, choices and the oracle.
template <class Picker>
class Recorder {
 public:
  Recorder(Picker& picker, Scene& scene) : picker_(picker), scene_(scene) {}

  const Alternative& choose(Choice choice, Alternatives alternatives, std::string_view tail,
                            CharClass char_class) {
    const std::size_t index = picker_.pick(alternatives, tail);
    const Alternative& picked = alternatives[index];
    const std::uint32_t total = total_weight(alternatives);
    scene_.choices.push_back({choice, static_cast<std::int32_t>(index),
                              static_cast<std::int32_t>(alternatives.size()), picked.weight,
                              total});
    spell(alternatives, picked, tail, total);
    append(picked.text, char_class);
    append(tail, char_class);
    return picked;
  }

  void text(std::string_view text, CharClass char_class) {
    picker_.fixed(text);
    append(text, char_class);
    scene_.surprisal.resize(scene_.text.size(), 0.0);
  }

  bool word(std::string_view expected, CharClass char_class, WordList) {
    text(expected, char_class);
    return true;
  }

  std::int64_t length() const { return static_cast<std::int64_t>(scene_.text.size()); }

 private:
  void append(std::string_view text, CharClass char_class) {
    scene_.text.append(text);
    scene_.classes.insert(scene_.classes.end(), text.size(), char_class);
  }

  static char char_at(const Alternative& alternative, std::string_view tail, std::size_t i) {
    return i < alternative.text.size() ? alternative.text[i] : tail[i - alternative.text.size()];
  }

  /// Surprisal of each character of the picked alternative: the alternatives that still fit before
  /// and after it, by weight. Asserts that no other alternative is a prefix of this one or goes on
  /// from it, without which text would not determine choices.
  void spell(Alternatives alternatives, const Alternative& picked, std::string_view tail,
             std::uint32_t total) {
    const std::size_t length = picked.text.size() + tail.size();
    candidates_.assign(alternatives.begin(), alternatives.end());
    std::uint32_t before = total;
    for (std::size_t i = 0; i < length && candidates_.size() > 1; ++i) {
      const char next = char_at(picked, tail, i);
      std::erase_if(candidates_, [&](const Alternative& candidate) {
        return char_at(candidate, tail, i) != next;
      });
      for (const Alternative& candidate : candidates_) {
        const bool ends_here = candidate.text.size() + tail.size() == i + 1;
        if (ends_here && candidates_.size() > 1) {
          throw Error(cat("scenes: \"", candidate.text, tail, "\" and \"", picked.text, tail,
                          "\" share a prefix, expected prefix-free alternatives"));
        }
      }
      const std::uint32_t after = total_weight(candidates_);
      scene_.surprisal.push_back(
          after == before ? 0.0
                          : std::log(static_cast<double>(before) / static_cast<double>(after)));
      before = after;
    }
    scene_.surprisal.resize(scene_.text.size() + length, 0.0);
  }

  Picker& picker_;
  Scene& scene_;
  std::vector<Alternative> candidates_;
};

}  // namespace

Scenes::Lexicon::Lexicon(SceneOptions used) : options(used) {
  expect_count("names", options.names, 3, words::kNames.size());
  expect_count("adjectives", options.adjectives, 1, words::kAdjectives.size());
  expect_count("objects", options.objects, 1, words::kObjects.size());
  expect_count("places", options.places, 2, words::kPlaces.size());
  expect_count("things", options.things, 1, words::kThings.size());
  if (options.adjectives * options.objects < kMostThings) {
    throw Error(cat("scenes: ", options.adjectives, " adjectives times ", options.objects,
                    " objects make ", options.adjectives * options.objects, " things, expected ",
                    kMostThings, " or more (a scene may name that many)"));
  }
  names = ranked(words::kNames, options.names);
  keepers = uniform(name_words());
  objects = ranked(words::kObjects, options.objects);
  places = ranked(words::kPlaces, options.places);
  things = ranked(words::kThings, options.things);
  numbers = uniform(words::kNumbers);
  times = uniform(words::kTimes);
  rhymes = uniform(words::kRhymes);

  const auto adjective_count = static_cast<std::size_t>(options.adjectives);
  const auto object_count = static_cast<std::size_t>(options.objects);
  for (std::size_t i = 0; i < adjective_count; ++i) {
    const std::string_view word = words::kAdjectives[i];
    const bool vowel = std::string_view("aeiou").find(word.front()) != std::string_view::npos;
    strings.push_back(cat(vowel ? "an " : "a ", word));
    for (std::size_t j = 0; j < object_count; ++j) {
      strings.push_back(cat(word, " ", words::kObjects[j]));
    }
  }
  for (const Alternative& thing : things)
    strings.push_back(cat(thing.text, "s"));
  // Views are taken once the vector has stopped growing.
  adjectives = ranked(words::kAdjectives, options.adjectives);
  for (std::size_t i = 0; i < adjective_count; ++i) {
    adjectives[i].text = strings[i * (object_count + 1)];
  }
  for (std::size_t i = 0; i < things.size(); ++i) {
    plurals.push_back(strings[adjective_count * (object_count + 1) + i]);
  }
  thing_forms = plurals;
  for (const Alternative& thing : things)
    thing_forms.push_back(thing.text);
}

std::string_view name_of(CharClass char_class) {
  constexpr std::array<std::string_view, kCharClasses> kClassNames = {
      "open", "plan", "noun", "syntax", "turn", "mention", "recall", "count", "agree", "rhyme"};
  return kClassNames[static_cast<std::size_t>(char_class)];
}

Estimate estimate(std::span<const double> values) {
  if (values.empty()) return {};
  const auto count = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values)
    sum += value;
  const double mean = sum / count;
  double squares = 0;
  for (const double value : values)
    squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0.0 : std::sqrt(squares / (count - 1) / count)};
}

SceneOptions SceneOptions::preset(std::string_view name) {
  if (name == "standard") return standard();
  if (name == "easy") return easy();
  throw Error(cat("scenes: preset is \"", name, "\", expected \"standard\" or \"easy\""));
}

Scenes::Scenes(SceneOptions options, std::uint64_t seed)
    : lexicon_(std::make_shared<const Lexicon>(options)), seed_(seed) {}

Scene Scenes::scene(Split split, std::uint64_t index) const {
  Scene scene;
  Draw draw(seed_, split, index);
  Recorder recorder(draw, scene);
  Walk(*lexicon_, recorder).scene();
  return scene;
}

void Scenes::append_text(Split split, std::uint64_t index, std::string& text) const {
  Sampler sampler(Draw(seed_, split, index), text);
  Walk(*lexicon_, sampler).scene();
}

namespace {

/// Scenes that windows of so many characters set aside: enough even if all are of the shortest
/// kind.
std::uint64_t scenes_per_window(std::size_t characters) {
  return characters / static_cast<std::size_t>(Scenes::kShortestScene) + 1;
}

}  // namespace

Window Scenes::window(Split split, std::uint64_t index, std::int64_t targets) const {
  if (targets < 1) {
    throw Error(cat("scenes: window has ", targets, " targets, expected at least 1"));
  }
  const auto size = static_cast<std::size_t>(targets) + 1;
  Window result;
  result.tokens.reserve(size);
  result.surprisal.reserve(size);
  result.classes.reserve(size);
  std::uint64_t next = index * scenes_per_window(size);
  while (result.tokens.size() < size) {
    const Scene part = scene(split, next++);
    const std::size_t count = std::min(part.text.size(), size - result.tokens.size());
    for (std::size_t i = 0; i < count; ++i) {
      result.tokens.push_back(token_of(part.text[i]));
      result.surprisal.push_back(static_cast<float>(part.surprisal[i]));
      result.classes.push_back(part.classes[i]);
    }
  }
  result.surprisal.erase(result.surprisal.begin());  // the first character is only an input
  result.classes.erase(result.classes.begin());
  return result;
}

void Scenes::window(Split split, std::uint64_t index, std::span<std::int32_t> tokens) const {
  std::string text;
  text.reserve(tokens.size() + static_cast<std::size_t>(kLongestScene));
  std::uint64_t next = index * scenes_per_window(tokens.size());
  while (text.size() < tokens.size())
    append_text(split, next++, text);
  std::transform(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(tokens.size()),
                 tokens.begin(), token_of);
}

Estimate Scenes::floor(Split split, std::uint64_t first, std::int64_t windows,
                       std::int64_t targets) const {
  std::vector<double> means;
  for (std::int64_t i = 0; i < windows; ++i) {
    const Window one = window(split, first + static_cast<std::uint64_t>(i), targets);
    double sum = 0;
    for (const float surprisal : one.surprisal)
      sum += static_cast<double>(surprisal);
    means.push_back(sum / static_cast<double>(targets));
  }
  return estimate(means);
}

std::optional<Scene> Scenes::parse(std::string_view text) const {
  Scene scene;
  Match match(text);
  Recorder recorder(match, scene);
  try {
    Walk(*lexicon_, recorder).scene();
  } catch (const Mismatch&) {
    return std::nullopt;
  }
  if (!match.rest().empty()) return std::nullopt;
  return scene;
}

}  // namespace lamina::data
