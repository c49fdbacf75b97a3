// SPDX-License-Identifier: MIT
// Dropout masks made on the fly: 0 or keep_scale(p) for elements of a random region. Used by
// dropout, LayerNorm and attention.
#pragma once

#include "core/random.h"

#include <cstdint>

namespace lamina::kernels::cpu {

inline constexpr std::int64_t kMaskBlock = 256;  // elements made at a time

struct KeepMask {
  PhiloxRegion region;
  std::uint32_t threshold;  // numbers below it drop their element
  double keep_factor;

  KeepMask(PhiloxKey key, float p)
      : region(key), threshold(drop_threshold(p)), keep_factor(keep_scale(p)) {}

  /// numbers[8 g + i], of 16 bits, decides about element i of block number(g), for g < count.
  template <class Number>
  void draw(std::int64_t count, const Number& number, std::uint32_t* numbers) const {
    const PhiloxRegion own = region;
#pragma omp simd
    for (std::int64_t g = 0; g < count; ++g) {
      const PhiloxBlock block = philox_words(own, number(static_cast<std::uint64_t>(g)));
      numbers[8 * g] = block.x & 0xffffU;
      numbers[8 * g + 1] = block.x >> 16U;
      numbers[8 * g + 2] = block.y & 0xffffU;
      numbers[8 * g + 3] = block.y >> 16U;
      numbers[8 * g + 4] = block.z & 0xffffU;
      numbers[8 * g + 5] = block.z >> 16U;
      numbers[8 * g + 6] = block.w & 0xffffU;
      numbers[8 * g + 7] = block.w >> 16U;
    }
  }

  /// factors[j] of element first + j, for j < count <= kMaskBlock.
  template <class T>
  void fill(std::int64_t first, std::int64_t count, T* factors) const {
    std::uint32_t numbers[kMaskBlock + 8];
    const auto block = static_cast<std::uint64_t>(first) / 8;
    const std::int64_t skip = first % 8;
    draw((skip + count + 7) / 8, [block](std::uint64_t g) { return block + g; }, numbers);
    const T factor = static_cast<T>(keep_factor);
    const std::uint32_t limit = threshold;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j)
      factors[j] = numbers[skip + j] >= limit ? factor : T{0};
  }
};

}  // namespace lamina::kernels::cpu
