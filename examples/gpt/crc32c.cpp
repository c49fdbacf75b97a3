// SPDX-License-Identifier: MIT
#include "examples/gpt/crc32c.h"

#include <array>
#include <cstddef>

namespace lamina::gpt {

namespace {

constexpr std::size_t kStride = 8;
using Table = std::array<std::uint32_t, 256>;

/// Table i has the remainder of each byte with i zero bytes behind it, bits reversed: the bytes of
/// a stride do not wait for each other then.
constexpr std::array<Table, kStride> crc_tables() {
  std::array<Table, kStride> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit)
      rest = rest >> 1 ^ (rest % 2 == 1 ? 0x82f63b78U : 0U);
    tables[0][byte] = rest;
  }
  for (std::size_t i = 1; i < kStride; ++i) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t rest = tables[i - 1][byte];
      tables[i][byte] = rest >> 8 ^ tables[0][rest % 256];
    }
  }
  return tables;
}

}  // namespace

void Crc32c::add(std::string_view bytes) {
  static constexpr std::array<Table, kStride> kTables = crc_tables();
  const auto* next = reinterpret_cast<const unsigned char*>(bytes.data());
  std::size_t left = bytes.size();
  std::uint32_t rest = rest_;
  for (; left >= kStride; left -= kStride, next += kStride) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < kStride; ++i) {
      const std::uint32_t before = i < 4 ? rest >> 8 * i : 0;
      sum ^= kTables[kStride - 1 - i][(before ^ next[i]) % 256];
    }
    rest = sum;
  }
  for (; left > 0; --left, ++next)
    rest = rest >> 8 ^ kTables[0][(rest ^ *next) % 256];
  rest_ = rest;
}

}  // namespace lamina::gpt
