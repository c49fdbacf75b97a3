// SPDX-License-Identifier: MIT
// Comparison of both 16-bit halves of a word at once, and what collects its results. Used by the
// fused attention kernels for dropout.
#pragma once

#include <cstdint>

namespace lamina::device {

/// Bytes of `low` (numbers 0 ... 3) and `high` (4 ... 7), one for each hexadecimal digit; with 8
/// added, eight copies of the byte's first bit.
template <std::uint32_t kDigits>
__device__ __forceinline__ std::uint32_t pick_bytes(std::uint32_t low, std::uint32_t high) {
  std::uint32_t picked;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(picked) : "r"(low), "r"(high), "n"(kDigits));
  return picked;
}

/// Bytes that are 0xff where the lower and the upper half of `low`, then those of `high`, begin
/// with a 1, and else 0.
__device__ __forceinline__ std::uint32_t half_signs(std::uint32_t low, std::uint32_t high) {
  return pick_bytes<0xfdb9>(low, high);
}

/// Which halves are at least a threshold below 2^16.
class HalvesTest {
 public:
  __device__ __forceinline__ explicit HalvesTest(std::uint32_t threshold)
      : addend_((0x8000U - threshold % 0x8000U) * 0x10001U),
        either_(threshold < 0x8000U ? ~0U : 0U) {}

  /// The first bit of each half answers; the others mean nothing.
  __device__ __forceinline__ std::uint32_t signs(std::uint32_t word) const {
    // The lower 15 bits of a half reach those of the threshold where their sum has a 16th.
    const std::uint32_t sum = (word & 0x7fff7fffU) + addend_;
    return (word & sum) | ((word | sum) & either_);
  }

 private:
  std::uint32_t addend_, either_;
};

}  // namespace lamina::device
