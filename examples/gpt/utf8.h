// SPDX-License-Identifier: MIT
// UTF-8, one character at a time.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lamina::data {

inline constexpr char32_t kLastCodePoint = 0x10FFFF;

bool is_surrogate(char32_t symbol);

struct Utf8Character {
  char32_t symbol = 0;
  std::size_t bytes = 0;  // 0: not UTF-8
};

/// The character at the start of text, which is not empty: RFC 3629, so no overlong forms,
/// surrogates, or values above U+10FFFF.
Utf8Character first_character(std::string_view text);

void append_utf8(char32_t symbol, std::string& text);

/// "U+0041 'A'"; control characters without their picture.
std::string name_of_symbol(char32_t symbol);

}  // namespace lamina::data
