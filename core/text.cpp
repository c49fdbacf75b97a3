// SPDX-License-Identifier: MIT
#include "core/text.h"

#include <array>
#include <cstdio>

namespace lamina {

std::string bytes_text(std::size_t bytes) {
  constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  std::array<char, 32> text{};
  const int digits = unit == 0 ? 0 : value < 10.0 ? 2 : 1;
  std::snprintf(text.data(), text.size(), "%.*f %s", digits, value, kUnits[unit]);
  return text.data();
}

}  // namespace lamina
