// SPDX-License-Identifier: MIT
// Dropout's definition once more, for references: shares nothing with the kernels but Philox.
#pragma once

#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace lamina::testing {

/// What dropout multiplies an element of a region by: 0, or 1 / (1 - p) with p in units of 2^-16.
inline double keep_factor(PhiloxRegion region, float p, std::uint64_t element) {
  const PhiloxBlock block = philox_words(region, element / 8);
  const std::uint32_t words[] = {block.x, block.y, block.z, block.w};
  const std::uint32_t word = words[element % 8 / 2];
  const double number = element % 2 == 0 ? word % 65536 : word / 65536;
  const double dropped = std::min(std::round(static_cast<double>(p) * 65536.0), 65535.0);
  return number < dropped ? 0.0 : 65536.0 / (65536.0 - dropped);
}

}  // namespace lamina::testing
