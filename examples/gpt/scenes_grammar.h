// SPDX-License-Identifier: MIT
// The grammar of the generated corpus (examples/gpt/scenes.h), for its sources only. Walk writes a
// scene by asking a chooser for every free choice: scenes.cpp draws, records and parses with it,
// scenes_judge.cpp judges.
#pragma once

#include "examples/gpt/scenes.h"
#include "examples/gpt/words.h"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::data {

using WordList = std::span<const std::string_view>;

/// One way to go on: its text (the delimiter that follows is common to a choice), weight and
/// meaning.
struct Alternative {
  std::string_view text;
  std::uint32_t weight = 1;
  int id = 0;
};

using Alternatives = std::span<const Alternative>;

/// What a sentence that starts in some way is about.
enum class Opening { put, have, made, sing, moved, where, keeps };

inline constexpr std::array<Alternative, 7> kOpenings = {{
    {"I put ", 30, static_cast<int>(Opening::put)},
    {"I have ", 15, static_cast<int>(Opening::have)},
    {"I made ", 8, static_cast<int>(Opening::made)},
    {"Sing with me: ", 5, static_cast<int>(Opening::sing)},
    {"I moved the ", 15, static_cast<int>(Opening::moved)},
    {"Where is the ", 30, static_cast<int>(Opening::where)},
    {"Who keeps the ", 10, static_cast<int>(Opening::keeps)},
}};

inline constexpr std::string_view kSceneEnd = "---\n\n";
inline constexpr std::array<Alternative, 2> kEndings = {{{"\n", 17, 0}, {kSceneEnd, 3, 1}}};

inline constexpr int kSureTurns = 4;  // a scene may end after these
// No turn starts later. The longest turn takes 121 characters and the end 5: less than 1024 in all.
inline constexpr std::int64_t kLastTurnStart = 890;
inline constexpr int kMostThings = 32;  // a turn takes at least 30 characters

struct Scenes::Lexicon {
  /// Throws Error when a list is too long, or too short for a scene.
  explicit Lexicon(SceneOptions used);

  /// "red lantern"
  std::string_view pair(int adjective, int object) const {
    return strings[static_cast<std::size_t>(adjective * (options.objects + 1) + object + 1)];
  }

  WordList name_words() const { return WordList(words::kNames).first(names.size()); }

  WordList place_words() const { return WordList(words::kPlaces).first(places.size()); }

  SceneOptions options;
  // Per adjective: with its article, then with every object. After them the plurals.
  std::vector<std::string> strings;
  std::vector<Alternative> names, keepers, adjectives, objects, places, things, numbers, times,
      rhymes;
  std::vector<std::string_view> plurals;      // [things]
  std::vector<std::string_view> thing_forms;  // plurals and singulars
};

/// The grammar. A chooser offers choose(), text() for what is fixed, word() for fixed words that a
/// model may get wrong (true when right), and length(), the characters since the scene began.
template <class Chooser>
class Walk {
 public:
  Walk(const Scenes::Lexicon& lexicon, Chooser& chooser) : lexicon_(lexicon), chooser_(chooser) {}

  void scene() {
    header();
    while (turn()) {
    }
  }

  void header() {
    chooser_.text(Scenes::kPrompt, CharClass::syntax);
    pick(Choice::scene_place, lexicon_.places, ", ", CharClass::open);
    time_ = pick(Choice::scene_time, lexicon_.times, "]\n\n", CharClass::open);
    speakers_[0] = pick(Choice::first_speaker, lexicon_.names, ":\n", CharClass::open);
  }

  /// One turn, or the end of the scene and false.
  bool turn() {
    if (turns_ > 0) {
      if (ends()) return false;
      next_speaker();
    }
    if constexpr (requires { chooser_.skip_reply(); }) {
      if (is_lost_) chooser_.skip_reply();
    }
    if (!is_lost_) reply();
    is_lost_ = false;
    pending_ = {};
    sentence();
    ++turns_;
    return true;
  }

  /// After a turn that does not follow the grammar: the next one is taken without its reply.
  void skip_turn() {
    ++turns_;
    is_lost_ = true;
  }

 private:
  enum class Question { none, where, keeper, share };

  struct Pending {
    Question question = Question::none;
    std::string_view word;  // the place or the keeper
    int amount = 0, taken = 0, thing = 0;
  };

  struct Thing {
    std::string_view text;  // "red lantern"
    int where = 0;          // its place, or its keeper
  };

  struct Things {
    std::array<Thing, kMostThings> items;
    std::size_t count = 0;
  };

  int pick(Choice choice, Alternatives alternatives, std::string_view tail, CharClass char_class) {
    return chooser_.choose(choice, alternatives, tail, char_class).id;
  }

  /// pick() among those alternatives that `is_allowed` lets through.
  template <class Predicate>
  int pick_if(Choice choice, Alternatives alternatives, std::string_view tail, CharClass char_class,
              Predicate is_allowed) {
    std::array<Alternative, kMostThings> allowed;
    std::size_t count = 0;
    for (const Alternative& alternative : alternatives) {
      if (is_allowed(alternative.id)) allowed[count++] = alternative;
    }
    return pick(choice, Alternatives(allowed).first(count), tail, char_class);
  }

  Thing& pick_thing(Choice choice, Things& things, std::string_view tail) {
    std::array<Alternative, kMostThings> known;
    for (std::size_t i = 0; i < things.count; ++i) {
      known[i] = {things.items[i].text, 1, static_cast<int>(i)};
    }
    const Alternatives alternatives = Alternatives(known).first(things.count);
    return things
        .items[static_cast<std::size_t>(pick(choice, alternatives, tail, CharClass::mention))];
  }

  std::string_view name(int speaker) const {
    return words::kNames[static_cast<std::size_t>(speaker)];
  }

  std::string_view place(int id) const { return words::kPlaces[static_cast<std::size_t>(id)]; }

  void fixed(std::string_view text) { chooser_.text(text, CharClass::syntax); }

  bool ends() {
    if (chooser_.length() > kLastTurnStart) {
      chooser_.text(kSceneEnd, CharClass::plan);
      return true;
    }
    if (turns_ < kSureTurns) {
      fixed("\n");
      return false;
    }
    return pick(Choice::ending, kEndings, "", CharClass::plan) == 1;
  }

  void next_speaker() {
    if (speakers_[1] < 0) {
      speakers_[1] = pick_if(Choice::second_speaker, lexicon_.names, ":\n", CharClass::open,
                             [&](int id) { return id != speakers_[0]; });
      speaker_ = 1;
      return;
    }
    speaker_ = 1 - speaker_;
    const bool is_right =
        chooser_.word(name(speakers_[speaker_]), CharClass::turn, lexicon_.name_words());
    if (!is_right) speaker_ = 1 - speaker_;  // the judge goes on with the one who speaks
    chooser_.text(":\n", CharClass::turn);
  }

  void reply() {
    if (turns_ == 0) return;
    const std::string_view other = name(speakers_[1 - speaker_]);
    if (turns_ == 1) {
      fixed("Good ");
      recall(words::kGreetings[static_cast<std::size_t>(time_)], words::kGreetings);
      fixed(", ");
      recall(other, lexicon_.name_words());
      fixed(". ");
    }
    switch (pending_.question) {
      case Question::none:
        break;
      case Question::where:
        fixed("It is in the ");
        recall(pending_.word, lexicon_.place_words());
        fixed(". ");
        break;
      case Question::keeper:
        recall(pending_.word, lexicon_.name_words());
        fixed(" does. ");
        break;
      case Question::share: {
        const int left = pending_.amount - pending_.taken;
        const auto thing = static_cast<std::size_t>(pending_.thing);
        fixed("Thank you, ");
        recall(other, lexicon_.name_words());
        fixed(". Now you have ");
        count(left);
        fixed(" ");
        chooser_.word(left == 1 ? words::kThings[thing] : lexicon_.plurals[thing], CharClass::agree,
                      lexicon_.thing_forms);
        fixed(" and I have ");
        count(pending_.taken);
        fixed(". ");
        break;
      }
    }
  }

  void recall(std::string_view word, WordList list) {
    chooser_.word(word, CharClass::recall, list);
  }

  void count(int number) {
    chooser_.word(words::kNumbers[static_cast<std::size_t>(number)], CharClass::count,
                  words::kNumbers);
  }

  void sentence() {
    const int opening = pick_if(Choice::sentence, kOpenings, "", CharClass::plan, [&](int id) {
      const auto kind = static_cast<Opening>(id);
      if (kind == Opening::moved || kind == Opening::where) return placed_.count > 0;
      return kind != Opening::keeps || kept_.count > 0;
    });
    switch (static_cast<Opening>(opening)) {
      case Opening::put:
        add_thing(placed_, " in the ", [&] { return pick_place(); });
        break;
      case Opening::made:
        add_thing(kept_, " for ", [&] {
          return pick_if(Choice::keeper, lexicon_.keepers, ".\n", CharClass::noun,
                         [&](int id) { return id != speakers_[0] && id != speakers_[1]; });
        });
        break;
      case Opening::moved: {
        Thing& thing = pick_thing(Choice::thing_moved, placed_, " to the ");
        thing.where = pick_if(Choice::place, lexicon_.places, ".\n", CharClass::noun,
                              [&](int id) { return id != thing.where; });
        break;
      }
      case Opening::where: {
        const Thing& thing = pick_thing(Choice::thing_sought, placed_, "?\n");
        pending_ = {.question = Question::where, .word = place(thing.where)};
        break;
      }
      case Opening::keeps: {
        const Thing& thing = pick_thing(Choice::thing_kept, kept_, "?\n");
        pending_ = {.question = Question::keeper, .word = name(thing.where)};
        break;
      }
      case Opening::have:
        share();
        break;
      case Opening::sing:
        sing();
        break;
    }
  }

  int pick_place() { return pick(Choice::place, lexicon_.places, ".\n", CharClass::noun); }

  /// A thing that is not in the scene yet, and then its place or its keeper.
  template <class PickWhere>
  void add_thing(Things& things, std::string_view tail, PickWhere pick_where) {
    const std::uint32_t all = (std::uint32_t{1} << lexicon_.objects.size()) - 1;
    const int adjective =
        pick_if(Choice::adjective, lexicon_.adjectives, " ", CharClass::noun,
                [&](int id) { return used_[static_cast<std::size_t>(id)] != all; });
    std::uint32_t& used = used_[static_cast<std::size_t>(adjective)];
    const int object = pick_if(Choice::object, lexicon_.objects, tail, CharClass::noun,
                               [&](int id) { return (used >> id & 1U) == 0; });
    const int where = pick_where();
    used |= std::uint32_t{1} << object;
    things.items[things.count++] = {lexicon_.pair(adjective, object), where};
  }

  void share() {
    const Alternatives numbers = lexicon_.numbers;
    const int amount = pick(Choice::amount, numbers.subspan(2), " ", CharClass::noun);
    const int thing = pick(Choice::counted, lexicon_.things, "s. Take ", CharClass::noun);
    const int taken = pick(Choice::taken, numbers.subspan(1, static_cast<std::size_t>(amount) - 1),
                           " of them.\n", CharClass::noun);
    pending_ = {
        .question = Question::share, .word = {}, .amount = amount, .taken = taken, .thing = thing};
  }

  void sing() {
    constexpr int kSize = words::kRhymeClassSize;
    const int first = pick(Choice::song_first, lexicon_.rhymes, " and ", CharClass::noun);
    const int second = pick_if(Choice::song_second, lexicon_.rhymes, ", ", CharClass::noun,
                               [&](int id) { return id / kSize != first / kSize; });
    pick_if(Choice::rhyme_first, lexicon_.rhymes, " and ", CharClass::rhyme,
            [&](int id) { return id != first && id / kSize == first / kSize; });
    pick_if(Choice::rhyme_second, lexicon_.rhymes, "!\n", CharClass::rhyme,
            [&](int id) { return id != second && id / kSize == second / kSize; });
  }

  const Scenes::Lexicon& lexicon_;
  Chooser& chooser_;
  int time_ = 0;
  std::array<int, 2> speakers_ = {-1, -1};
  std::size_t speaker_ = 0;
  int turns_ = 0;
  Things placed_, kept_;
  std::array<std::uint32_t, words::kAdjectives.size()> used_{};  // per adjective, a bit per object
  Pending pending_;
  bool is_lost_ = false;
};

/// Text that leaves the grammar. Never gets past Scenes::parse() and Scenes::judge().
struct Mismatch {
  bool is_cut;  // the text ended while all of it fitted
};

/// Follows a text instead of drawing.
class Match {
 public:
  explicit Match(std::string_view text) : text_(text) {}

  std::size_t pick(Alternatives alternatives, std::string_view tail) {
    bool is_cut = false;
    for (std::size_t i = 0; i < alternatives.size(); ++i) {
      const std::string_view head = alternatives[i].text;
      if (!fits(0, head, is_cut) || !fits(head.size(), tail, is_cut)) continue;
      position += head.size() + tail.size();
      return i;
    }
    throw Mismatch{is_cut};
  }

  void fixed(std::string_view text) {
    bool is_cut = false;
    if (!fits(0, text, is_cut)) throw Mismatch{is_cut};
    position += text.size();
  }

  std::string_view rest() const { return text_.substr(position); }

  std::size_t position = 0;

 private:
  /// Whether the text goes on with `part`, `offset` characters on; is_cut is set where it ends
  /// within.
  bool fits(std::size_t offset, std::string_view part, bool& is_cut) const {
    const std::string_view here = text_.substr(position + offset, part.size());
    if (here.size() < part.size() && part.substr(0, here.size()) == here) is_cut = true;
    return here == part;
  }

  std::string_view text_;
};

}  // namespace lamina::data
