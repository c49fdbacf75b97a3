// SPDX-License-Identifier: MIT
#include "examples/gpt/shuffle.h"

#include "core/random.h"

#include <bit>

namespace lamina::data {

std::uint64_t shuffled(std::uint64_t index, std::uint64_t count, std::uint64_t seed,
                       std::uint64_t epoch) {
  constexpr std::uint64_t kRounds = 10;
  if (count <= 1) return 0;
  const int half = (static_cast<int>(std::bit_width(count - 1)) + 1) / 2;  // bits
  const std::uint64_t mask = (std::uint64_t{1} << static_cast<unsigned>(half)) - 1;
  do {
    std::uint64_t left = index >> static_cast<unsigned>(half), right = index & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const PhiloxBlock words = philox_words({seed, epoch * kRounds + round}, right);
      const std::uint64_t next = left ^ ((std::uint64_t{words.x} << 32U | words.y) & mask);
      left = right;
      right = next;
    }
    index = left << static_cast<unsigned>(half) | right;
  } while (index >= count);
  return index;
}

}  // namespace lamina::data
