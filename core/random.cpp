// SPDX-License-Identifier: MIT
#include "core/random.h"

#include <cmath>
#include <numbers>

namespace lamina {

Generator& default_generator() {
  thread_local Generator generator;
  return generator;
}

void seed(std::uint64_t value) {
  default_generator() = Generator(value);
}

double uniform_at(PhiloxKey key, std::uint64_t i) {
  const PhiloxBlock block = philox_words(key, i / 2);
  const std::uint64_t word = i % 2 == 0 ? (std::uint64_t{block.x} << 32U) | block.y
                                        : (std::uint64_t{block.z} << 32U) | block.w;
  return static_cast<double>(word >> 11U) * 0x1.0p-53;
}

double normal_at(PhiloxKey key, std::uint64_t i) {
  const double u = 1.0 - uniform_at(key, i / 2 * 2);  // in (0, 1], so that the logarithm is finite
  const double angle = 2.0 * std::numbers::pi * uniform_at(key, i / 2 * 2 + 1);
  const double radius = std::sqrt(-2.0 * std::log(u));
  return radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

}  // namespace lamina
