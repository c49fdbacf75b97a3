// SPDX-License-Identifier: MIT
// CRC-32C: every change of one bit, and of up to 32 bits in a row, gives another checksum.
// RFC 3720, section 12.1.
#pragma once

#include <cstdint>
#include <string_view>

namespace lamina::gpt {

/// The checksum of bytes that come in pieces.
class Crc32c {
 public:
  /// Takes eight bytes at a time, a look-up in a table for each.
  void add(std::string_view bytes);

  std::uint32_t value() const { return ~rest_; }

 private:
  std::uint32_t rest_ = ~0U;
};

inline std::uint32_t crc32c(std::string_view bytes) {
  Crc32c crc;
  crc.add(bytes);
  return crc.value();
}

}  // namespace lamina::gpt
