// SPDX-License-Identifier: MIT
// The built-in corpus: an endless stream of short generated scenes whose entropy is known exactly.
// A scene is written by one grammar (scenes.cpp) that asks a chooser for every free choice. All
// alternatives of a choice are prefix-free strings with integer weights and everything else follows
// from the text so far, so text and choices determine each other and the probability of the next
// character given the text is an exact fraction. The same grammar draws scenes, parses text, and
// judges what a model has written. lamina-gpt trains on it by default and reports loss minus floor.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::data {

/// Streams that never share a scene, whatever the indices.
enum class Split : std::uint32_t { train, validation, test };

/// What predicting a character takes. open, plan and noun are news; the rest follows from memory.
enum class CharClass : std::uint8_t {
  open,     // the header and the two speakers
  plan,     // what kind of sentence comes next, and whether the scene ends
  noun,     // a new thing, place, number, keeper or song word
  syntax,   // fixed text
  turn,     // whose turn it is
  mention,  // which of the known things a sentence is about
  recall,   // an answer, a greeting or thanks: a word said before
  count,    // a difference
  agree,    // singular or plural
  rhyme,    // a word of the same rhyme
};

inline constexpr int kCharClasses = 10;

/// "open", "plan", ...
std::string_view name_of(CharClass char_class);

/// The free choices of the grammar.
enum class Choice : std::uint8_t {
  scene_place,
  scene_time,
  first_speaker,
  second_speaker,
  ending,
  sentence,
  adjective,
  object,
  place,
  keeper,
  thing_moved,
  thing_sought,
  thing_kept,
  amount,
  counted,
  taken,
  song_first,
  song_second,
  rhyme_first,
  rhyme_second,
};

/// One choice as it was made. Its probability is weight / total.
struct ChoiceRecord {
  Choice choice{};
  std::int32_t picked = 0;        // position among the alternatives
  std::int32_t alternatives = 0;  // how many there were
  std::uint32_t weight = 0;
  std::uint32_t total = 0;

  bool operator==(const ChoiceRecord&) const = default;
};

struct Scene {
  std::string text;
  std::vector<double> surprisal;   // [text.size()], nats: -log P(character | the scene before it)
  std::vector<CharClass> classes;  // [text.size()]
  std::vector<ChoiceRecord> choices;
};

/// A training example of T targets: inputs are tokens[0, T), targets tokens[1, T + 1).
struct Window {
  std::vector<std::int32_t> tokens;  // [T + 1], ids of Vocabulary::builtin()
  std::vector<float> surprisal;      // [T], nats; of target tokens[t + 1] given tokens[0, t]
  std::vector<CharClass> classes;    // [T], of target tokens[t + 1]
};

/// A sample mean and its standard error.
struct Estimate {
  double mean = 0;
  double standard_error = 0;  // 0 for fewer than two values
};

/// Mean and standard error of independent values. Also for paired excess: model loss minus floor,
/// window by window.
Estimate estimate(std::span<const double> values);

/// How many words of each list of examples/gpt/words.h are used: the first ones.
struct SceneOptions {
  int names = 24;
  int adjectives = 20;
  int objects = 28;
  int places = 16;
  int things = 10;

  /// For contexts of about 1024 characters: the full lists.
  static SceneOptions standard() { return {}; }

  /// For contexts of about 128 characters and minutes on a CPU.
  static SceneOptions easy() { return {8, 6, 8, 6, 3}; }

  /// "standard" or "easy". Throws Error for other names.
  static SceneOptions preset(std::string_view name);
};

/// What a model's text gets right, counted over complete sentences. Counts, not fractions.
struct SampleReport {
  std::int64_t sentences = 0;    // turns, and the headers that fail
  std::int64_t grammatical = 0;  // the right speaker, known words, things that exist, agreement
  std::int64_t recalls = 0;      // answers to questions; names and times of greetings and thanks
  std::int64_t recalls_correct = 0;
  std::int64_t sums = 0;  // numbers stated after a gift: what is left, what was given
  std::int64_t sums_correct = 0;
  std::int64_t rhymes = 0;
  std::int64_t rhymes_kept = 0;

  /// "97.5% of 40 sentences grammatical, 90.0% of 20 answers correct, ..."
  std::string text() const;
};

/// The generator. Immutable and cheap to copy; all functions may be called from several threads.
class Scenes {
 public:
  /// The longest and a lower bound of the shortest scene, in characters.
  static constexpr std::int64_t kLongestScene = 1024;
  static constexpr std::int64_t kShortestScene = 100;

  /// Every scene starts with this character: the prompt to sample a scene.
  static constexpr std::string_view kPrompt = "[";

  /// Throws Error when a list is too long, or too short for a scene.
  explicit Scenes(SceneOptions options = SceneOptions::standard(), std::uint64_t seed = 1337);

  /// Scene `index` of a split with its exact oracle. Does not depend on any other scene.
  Scene scene(Split split, std::uint64_t index) const;

  /// The text alone of that scene, appended to `text`. More than 100 M characters/s on
  /// one core of a busy server (EPYC, g++ 12 -O2); scene(), with the oracle, a third of that.
  void append_text(Split split, std::uint64_t index, std::string& text) const;

  /// `targets` + 1 characters from the start of a scene on, continued with further scenes. Windows
  /// of one length use disjoint scenes: the windows 0, 1, 2, ... of Split::train are a stream
  /// without end, and the first N of Split::validation a fixed set that is never trained on.
  Window window(Split split, std::uint64_t index, std::int64_t targets) const;

  /// The same tokens without the oracle. tokens: [T + 1], out.
  void window(Split split, std::uint64_t index, std::span<std::int32_t> tokens) const;

  /// The entropy floor of windows `first` ... `first + windows - 1`: the mean surprisal of their
  /// targets in nats per character, with its standard error over windows. No model has a lower
  /// expected loss on them.
  ///   targets    64      128     256     512     1024    (10,000 windows, each +- 0.0005 or less)
  ///   standard   0.2968  0.1968  0.1667  0.1569  0.1522
  ///   easy       0.2141  0.1446  0.1255  0.1196  0.1169
  Estimate floor(Split split, std::uint64_t first, std::int64_t windows,
                 std::int64_t targets) const;

  /// The inverse of scene(): the choices and the oracle of a text that is exactly one scene;
  /// nothing for any other text.
  std::optional<Scene> parse(std::string_view text) const;

  /// Judges text that starts at the start of a scene, for example what a model wrote after kPrompt.
  /// Goes on after mistakes; a sentence that the end of the text cuts off is not counted.
  SampleReport judge(std::string_view text) const;

  /// The word lists, prepared.
  struct Lexicon;

 private:
  std::shared_ptr<const Lexicon> lexicon_;
  std::uint64_t seed_;
};

}  // namespace lamina::data
