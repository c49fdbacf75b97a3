// SPDX-License-Identifier: MIT
#include "core/dtype.h"

#include <cmath>

namespace lamina {

Half::Half(float value) {
  const auto word = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((word >> 16U) & 0x8000U);
  const std::uint32_t magnitude = word & 0x7fffffffU;
  if (magnitude > 0x7f800000U) {  // NaN
    bits = static_cast<std::uint16_t>(sign | 0x7e00U);
  } else if (magnitude >= 0x477ff000U) {  // rounds to 65520 or more: infinity
    bits = static_cast<std::uint16_t>(sign | 0x7c00U);
  } else if (magnitude < 0x38800000U) {  // below 2^-14: subnormal, multiples of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 16777216.0F;
    bits = static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyintf(scaled)));
  } else {
    const std::uint32_t rounded = magnitude - 0x38000000U + 0xfffU + ((magnitude >> 13U) & 1U);
    bits = static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(rounded >> 13U));
  }
}

Half::operator float() const {
  const std::uint32_t sign = (bits & 0x8000U) << 16U;
  const std::uint32_t magnitude = bits & 0x7fffU;
  std::uint32_t word = 0;
  if (magnitude >= 0x7c00U) {
    word = 0x7f800000U | (magnitude & 0x3ffU) << 13U;
  } else if (magnitude >= 0x400U) {
    word = (magnitude << 13U) + 0x38000000U;
  } else {
    word = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1.0p-24F);
  }
  return std::bit_cast<float>(sign | word);
}

}  // namespace lamina
