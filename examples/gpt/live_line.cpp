// SPDX-License-Identifier: MIT
#include "examples/gpt/live_line.h"

#include "core/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>

namespace lamina::gpt {

void LiveLine::update(const std::string& text) {
  if (console_.is_terminal) {
    console_.out << '\r' << text.substr(0, console_.columns - 1) << "\033[K" << std::flush;
  } else {
    console_.out << text << std::endl;
  }
}

void LiveLine::print(const std::string& text) {
  console_.out << (console_.is_terminal ? "\r\033[K" : "") << text << std::endl;
}

void LiveLine::print_bold(const std::string& text) {
  print(console_.use_color ? "\033[1m" + text + "\033[0m" : text);
}

std::string fixed(double value, int digits, bool with_sign) {
  if (std::isnan(value)) return "nan";  // printf gives its sign, too
  std::array<char, 400> text{};
  std::snprintf(text.data(), text.size(), with_sign ? "%+.*f" : "%.*f", digits, value);
  return text.data();
}

std::string scientific(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1e", value);
  return text.data();
}

std::string count_text(double count) {
  if (count < 1e3) return fixed(count, 0);
  if (count < 1e6) return fixed(count / 1e3, 1) + "k";
  return fixed(count / 1e6, 2) + "M";
}

std::string duration_text(double seconds) {
  const auto total = static_cast<std::int64_t>(std::lround(std::clamp(seconds, 0.0, 1e9)));
  const auto two = [](std::int64_t value) { return cat(value < 10 ? "0" : "", value); };
  const std::int64_t hours = total / 3600, minutes = total / 60 % 60;
  return hours > 0 ? cat(hours, ":", two(minutes), ":", two(total % 60))
                   : cat(minutes, ":", two(total % 60));
}

}  // namespace lamina::gpt
