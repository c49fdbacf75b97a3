// SPDX-License-Identifier: MIT
// Dropout masks made on the fly: 0 or 1 / (1 - p) for consecutive elements of a random region.
// Used by dropout, LayerNorm and attention.
#pragma once

#include "core/random.h"

#include <cstdint>

namespace lamina::kernels::cpu {

inline constexpr std::int64_t kMaskBlock = 256;  // elements made at a time

struct KeepMask {
  PhiloxRegion region;
  std::uint32_t threshold;  // words below it drop their element
  double keep_factor;       // 1 / (1 - p)

  KeepMask(PhiloxKey key, float p)
      : region(key),
        threshold(drop_threshold(p)),
        keep_factor(1.0 / (1.0 - static_cast<double>(p))) {}

  /// factors[j] of element first + j, for j < count <= kMaskBlock.
  template <class T>
  void fill(std::int64_t first, std::int64_t count, T* factors) const {
    std::uint32_t words[kMaskBlock + 8];
    const auto group = static_cast<std::uint64_t>(first) / 4;
    const std::int64_t skip = first % 4;
    const std::int64_t groups = (skip + count + 3) / 4;
    const PhiloxRegion own = region;
#pragma omp simd
    for (std::int64_t g = 0; g < groups; ++g) {
      const PhiloxBlock block = philox_words(own, group + static_cast<std::uint64_t>(g));
      words[4 * g] = block.x;
      words[4 * g + 1] = block.y;
      words[4 * g + 2] = block.z;
      words[4 * g + 3] = block.w;
    }
    const T factor = static_cast<T>(keep_factor);
    const std::uint32_t limit = threshold;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j)
      factors[j] = words[skip + j] >= limit ? factor : T{0};
  }
};

}  // namespace lamina::kernels::cpu
