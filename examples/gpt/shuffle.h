// SPDX-License-Identifier: MIT
// The numbers below `count` in a random order that takes no memory: the place of a window in an
// epoch is known without the epochs before, so that a run can go on anywhere.
#pragma once

#include <cstdint>

namespace lamina::data {

/// Number `index` of order `epoch`, both counted from 0: for each epoch a permutation of
/// [0, count). A Feistel network of ten rounds over the next power of four, whose results above
/// `count` go through it again: Black and Rogaway 2002, "Ciphers with arbitrary finite domains",
/// section 4. Cost: at most some 40 Philox blocks on average.
std::uint64_t shuffled(std::uint64_t index, std::uint64_t count, std::uint64_t seed,
                       std::uint64_t epoch);

}  // namespace lamina::data
