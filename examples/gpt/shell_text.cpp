// SPDX-License-Identifier: MIT
#include "examples/gpt/shell_text.h"

#include <algorithm>

namespace lamina::gpt {

std::string shell_quoted(std::string_view word) {
  const bool is_plain = std::all_of(word.begin(), word.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_@%+=:,./-").find(c) != std::string_view::npos;
  });
  if (is_plain && !word.empty()) return std::string(word);
  std::string quoted = "'";
  for (const char c : word) {
    if (c == '\'') {
      quoted += "'\\''";  // nothing is escaped inside of quotes: they end, and begin again
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace lamina::gpt
