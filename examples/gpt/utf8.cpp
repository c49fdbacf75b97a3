// SPDX-License-Identifier: MIT
#include "examples/gpt/utf8.h"

#include <array>
#include <cstdint>
#include <iomanip>
#include <sstream>

namespace lamina::data {

bool is_surrogate(char32_t symbol) {
  return symbol >= 0xD800 && symbol <= 0xDFFF;
}

Utf8Character first_character(std::string_view text) {
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC0 || lead > 0xF7 || text.size() < bytes) return {};
  char32_t symbol = lead & (0xFFU >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xC0U) != 0x80) return {};
    symbol = symbol << 6U | (next & 0x3FU);
  }
  if (symbol < kSmallest[bytes] || symbol > kLastCodePoint || is_surrogate(symbol)) return {};
  return {symbol, bytes};
}

void append_utf8(char32_t symbol, std::string& text) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  const auto put_rest = [&](int bits) {
    for (; bits >= 0; bits -= 6)
      put(0x80U | (symbol >> bits & 0x3FU));
  };
  if (symbol < 0x80) {
    put(symbol);
  } else if (symbol < 0x800) {
    put(0xC0U | symbol >> 6U);
    put_rest(0);
  } else if (symbol < 0x10000) {
    put(0xE0U | symbol >> 12U);
    put_rest(6);
  } else {
    put(0xF0U | symbol >> 18U);
    put_rest(12);
  }
}

std::string name_of_symbol(char32_t symbol) {
  std::ostringstream out;
  out << "U+" << std::uppercase << std::hex << std::setfill('0') << std::setw(4)
      << static_cast<std::uint32_t>(symbol);
  if (symbol >= 0x20 && symbol != 0x7F) {
    std::string text;
    append_utf8(symbol, text);
    out << " '" << text << "'";
  }
  return out.str();
}

}  // namespace lamina::data
