// SPDX-License-Identifier: MIT
#include "examples/gpt/gpt2_split.h"

#include "examples/gpt/unicode_classes.h"
#include "examples/gpt/utf8.h"

#include <algorithm>
#include <cstdint>
#include <span>

namespace lamina::data {

namespace {

enum class CharacterClass : std::uint8_t { letter, number, blank, other };

bool contains(std::span<const CodePointRange> ranges, char32_t symbol) {
  const auto after = std::upper_bound(
      ranges.begin(), ranges.end(), symbol,
      [](char32_t value, const CodePointRange& range) { return value < range.first; });
  return after != ranges.begin() && symbol <= std::prev(after)->last;
}

/// White_Space of Unicode, which \s stands for.
bool is_blank(char32_t symbol) {
  switch (symbol) {
    case 0x20:
    case 0x85:
    case 0xA0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202F:
    case 0x205F:
    case 0x3000:
      return true;
    default:
      return (symbol >= 0x09 && symbol <= 0x0D) || (symbol >= 0x2000 && symbol <= 0x200A);
  }
}

CharacterClass class_of(char32_t symbol) {
  if ((symbol >= 'a' && symbol <= 'z') || (symbol >= 'A' && symbol <= 'Z'))
    return CharacterClass::letter;
  if (is_blank(symbol)) return CharacterClass::blank;
  if (contains(kLetters, symbol)) return CharacterClass::letter;
  return contains(kNumbers, symbol) ? CharacterClass::number : CharacterClass::other;
}

struct Character {
  CharacterClass kind;
  std::size_t bytes;
};

Character character_at(std::string_view text) {
  const Utf8Character decoded = first_character(text);
  if (decoded.bytes == 0) return {CharacterClass::other, 1};
  return {class_of(decoded.symbol), decoded.bytes};
}

/// The end of the characters of one class that begin at `begin`.
std::size_t end_of_run(std::string_view text, std::size_t begin, CharacterClass kind) {
  while (begin < text.size()) {
    const Character next = character_at(text.substr(begin));
    if (next.kind != kind) break;
    begin += next.bytes;
  }
  return begin;
}

/// Whether the last character of text, which is not empty, is a blank.
bool ends_with_blank(std::string_view text) {
  constexpr std::size_t kLongest = 4;  // bytes
  for (std::size_t bytes = 1; bytes <= std::min(kLongest, text.size()); ++bytes) {
    const Utf8Character last = first_character(text.substr(text.size() - bytes));
    if (last.bytes == bytes) return is_blank(last.symbol);
  }
  return false;
}

}  // namespace

std::size_t first_gpt2_piece(std::string_view text) {
  if (text.empty()) return 0;
  for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(ending)) return ending.size();
  }
  const std::size_t begin = text.front() == ' ' && text.size() > 1 ? 1 : 0;
  const Character first = character_at(text.substr(begin));
  if (first.kind != CharacterClass::blank) return end_of_run(text, begin + first.bytes, first.kind);
  // Blanks. The last of several before a word is left to it, or is a piece of its own.
  std::size_t end = 0, last = 0;
  while (end < text.size()) {
    const Character next = character_at(text.substr(end));
    if (next.kind != CharacterClass::blank) return last > 0 ? last : end;
    last = end;
    end += next.bytes;
  }
  return end;
}

std::size_t gpt2_cut(std::string_view text, std::size_t at) {
  constexpr std::string_view kBlanks = " \n\t\r";
  at = std::max<std::size_t>(at, 1);
  while ((at = text.find_first_of(kBlanks, at)) != std::string_view::npos) {
    if (!ends_with_blank(text.substr(0, at))) return at;
    ++at;
  }
  return text.size();
}

}  // namespace lamina::data
