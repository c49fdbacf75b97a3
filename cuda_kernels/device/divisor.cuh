// SPDX-License-Identifier: MIT
// Division of 64-bit indices by a number that is fixed at launch: one multiplication and one
// correction instead of the hundred instructions of a 64-bit division.
#pragma once

#include <cstdint>

namespace lamina::device {

class Divisor {
 public:
  Divisor() = default;

  explicit Divisor(std::int64_t value)  // > 0
      : value_(value), reciprocal_(~std::uint64_t{0} / static_cast<std::uint64_t>(value)) {}

  /// n / value and n % value for n >= 0.
  __device__ __forceinline__ void divide(std::int64_t n, std::int64_t& quotient,
                                         std::int64_t& remainder) const {
    // reciprocal_ is at most 2^64 / value and less than 2 below it, so this is the quotient or 1
    // less.
    quotient = static_cast<std::int64_t>(__umul64hi(static_cast<std::uint64_t>(n), reciprocal_));
    remainder = n - quotient * value_;
    if (remainder >= value_) {
      ++quotient;
      remainder -= value_;
    }
  }

 private:
  std::int64_t value_ = 1;
  std::uint64_t reciprocal_ = ~std::uint64_t{0};
};

}  // namespace lamina::device
