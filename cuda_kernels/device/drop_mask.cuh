// SPDX-License-Identifier: MIT
// Dropout of neighbouring elements, with the mask made again from Philox instead of stored. Used by
// dropout, the norms and the composed attention; the fused attention kernels decide about whole
// tiles (attention_tile.cuh).
#pragma once

#include "core/random.h"

#include <cstdint>

namespace lamina::device {

struct DropMask {
  PhiloxKey key;  // for the offset
  PhiloxRounds rounds;
  std::uint32_t threshold;  // drop_threshold() in the upper half
  float scale;

  DropMask(float p, PhiloxKey key)
      : key(key),
        rounds(key.seed),
        threshold(drop_threshold(p) << 16U),
        scale(static_cast<float>(keep_scale(p))) {}

  /// False where nothing is dropped.
  __device__ __forceinline__ bool drops() const { return threshold != 0; }

  /// Of the region, for kept(); may read memory.
  __device__ __forceinline__ std::uint64_t offset() const { return key.region().offset; }

  /// Which of elements first ... first + kWidth - 1 are kept, the first in the lowest bit; first is
  /// a multiple of kWidth. Draws one block.
  template <int kWidth>
  __device__ __forceinline__ unsigned kept(std::uint64_t offset, std::uint64_t first) const {
    static_assert(kWidth == 1 || kWidth == 2 || kWidth == 4 || kWidth == 8);
    const PhiloxBlock block = rounds.words(offset, first / 8);
    std::uint32_t words[] = {block.x, block.y, block.z, block.w};
    // Selections with constant indices keep the words in registers.
    if (kWidth <= 4 && first % 8 >= 4) {
      words[0] = words[2];
      words[1] = words[3];
    }
    if (kWidth <= 2 && first % 4 >= 2) words[0] = words[1];
    if (kWidth == 1 && first % 2 == 0) words[0] <<= 16U;
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      // In the upper half of a word, whatever the lower one holds: that cannot turn the comparison.
      const std::uint32_t number = kWidth > 1 && i % 2 == 0 ? words[i / 2] << 16U : words[i / 2];
      if (number >= threshold) bits |= 1U << i;
    }
    return bits;
  }

  /// Drops values or scales them, by the lowest bits of `kept`. A dropped one is not multiplied:
  /// 0 * infinity would be NaN.
  template <int kWidth>
  __device__ __forceinline__ void apply(float (&values)[kWidth], unsigned kept) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      values[i] = (kept >> i & 1U) != 0 ? values[i] * scale : 0.0F;
  }
};

}  // namespace lamina::device
