// SPDX-License-Identifier: MIT
// Judges what a model has written against the grammar of the corpus.
#include "examples/gpt/scenes.h"
#include "examples/gpt/scenes_grammar.h"
#include "examples/gpt/words.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace lamina::data {

namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Follows text and counts. A fixed word that is wrong but of the right kind is tolerated; anything
/// else that does not fit throws Mismatch.
class Judge {
 public:
  Judge(std::string_view text, SampleReport& report) : match_(text), report_(report) {}

  const Alternative& choose(Choice, Alternatives alternatives, std::string_view tail,
                            CharClass char_class) {
    if (char_class != CharClass::rhyme) return alternatives[match_.pick(alternatives, tail)];
    const bool is_kept = rhyme(alternatives, tail);
    ++report_.rhymes;
    report_.rhymes_kept += is_kept ? 1 : 0;
    return alternatives[0];  // the grammar does not ask which
  }

  void text(std::string_view text, CharClass) { match_.fixed(text); }

  bool word(std::string_view expected, CharClass char_class, WordList list) {
    const std::string_view rest = match_.rest();
    const auto end = std::find_if_not(rest.begin(), rest.end(), is_letter);
    const std::string_view found(rest.data(), static_cast<std::size_t>(end - rest.begin()));
    if (end == rest.end()) throw Mismatch{true};
    const bool is_right = found == expected;
    if (!is_right && std::find(list.begin(), list.end(), found) == list.end()) {
      throw Mismatch{false};
    }
    match_.position += found.size();
    if (char_class == CharClass::recall) {
      ++report_.recalls;
      report_.recalls_correct += is_right ? 1 : 0;
    } else if (char_class == CharClass::count) {
      ++report_.sums;
      report_.sums_correct += is_right ? 1 : 0;
    } else if (!is_right && !is_lost_) {
      has_mistake_ = true;
    }
    return is_right;
  }

  std::int64_t length() const { return static_cast<std::int64_t>(match_.position - scene_start_); }

  void start_scene() { scene_start_ = match_.position; }

  bool is_at_end() const { return match_.rest().empty(); }

  void finish_sentence() {
    ++report_.sentences;
    report_.grammatical += has_mistake_ ? 0 : 1;
    has_mistake_ = is_lost_ = false;
  }

  /// Counts a sentence as wrong and moves to the boundary after it. False when the scene, or the
  /// text, ends there.
  bool skip_sentence() {
    has_mistake_ = true;
    finish_sentence();
    is_lost_ = true;
    const std::string_view rest = match_.rest();
    const std::size_t blank = rest.find("\n\n");
    if (blank == std::string_view::npos) {
      match_.position += rest.size();
      return false;
    }
    const bool is_scene_end = rest.substr(0, blank).ends_with("---");
    // A turn ends before the second newline: the grammar reads it as the first of the next turn.
    match_.position += blank + (is_scene_end ? 2 : 1);
    return !is_scene_end;
  }

  /// Moves to where the sentence of this turn starts: the first opening that starts a sentence.
  void skip_reply() {
    const std::string_view rest = match_.rest();
    const std::string_view line = rest.substr(0, rest.find('\n'));
    for (std::size_t start = 0; start != std::string_view::npos;) {
      const std::string_view here = line.substr(start);
      const bool opens =
          std::any_of(kOpenings.begin(), kOpenings.end(),
                      [&](const Alternative& opening) { return here.starts_with(opening.text); });
      if (opens) {
        match_.position += start;
        return;
      }
      const std::size_t stop = line.find(". ", start);
      start = stop == std::string_view::npos ? stop : stop + 2;
    }
  }

 private:
  bool rhyme(Alternatives alternatives, std::string_view tail) {
    try {
      match_.pick(alternatives, tail);
      return true;
    } catch (const Mismatch& mismatch) {
      if (mismatch.is_cut) throw;
    }
    std::array<Alternative, words::kRhymes.size()> all;
    for (std::size_t i = 0; i < all.size(); ++i)
      all[i].text = words::kRhymes[i];
    match_.pick(all, tail);
    return false;
  }

  Match match_;
  SampleReport& report_;
  std::size_t scene_start_ = 0;
  bool has_mistake_ = false;
  bool is_lost_ = false;
};

}  // namespace

std::string SampleReport::text() const {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1);
  const auto part = [&](std::int64_t good, std::int64_t all, std::string_view what) {
    if (all == 0) return;
    if (out.tellp() > 0) out << ", ";
    out << 100.0 * static_cast<double>(good) / static_cast<double>(all) << "% of " << all << ' '
        << what;
  };
  part(grammatical, sentences, "sentences grammatical");
  part(recalls_correct, recalls, "answers correct");
  part(sums_correct, sums, "sums correct");
  part(rhymes_kept, rhymes, "rhymes kept");
  return out.tellp() > 0 ? out.str() : "no complete sentence";
}

SampleReport Scenes::judge(std::string_view text) const {
  SampleReport report;
  Judge judge(text, report);
  while (!judge.is_at_end()) {
    Walk walk(*lexicon_, judge);
    judge.start_scene();
    try {
      walk.header();
    } catch (const Mismatch& mismatch) {
      if (mismatch.is_cut) return report;
      while (judge.skip_sentence()) {  // without a header nothing of the scene can be judged
      }
      continue;
    }
    bool goes_on = true;
    while (goes_on) {
      try {
        goes_on = walk.turn();
        if (goes_on) judge.finish_sentence();
      } catch (const Mismatch& mismatch) {
        if (mismatch.is_cut) return report;
        walk.skip_turn();
        goes_on = judge.skip_sentence();
      }
    }
  }
  return report;
}

}  // namespace lamina::data
