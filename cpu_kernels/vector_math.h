// SPDX-License-Identifier: MIT
// exp() and what is built on it, in a form that compilers turn into vector code. float uses a range
// reduction to |r| <= ln(2) / 2 and a polynomial; double calls the standard library.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace lamina::kernels::cpu {

/// e^x; within 2 units in the last place for float, gradual underflow and NaN included.
inline float exp_of(float x) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  x = x < -104.0F ? -104.0F : x;         // below: 0
  x = x > 89.0F ? 89.0F : x;             // above: infinity
  const float shifted = x * 1.44269504F + kRound;
  const float n = shifted - kRound;
  // ln(2) in two parts: the first has 10 significant bits, so that n * first is exact.
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  // Taylor: the first term left out is r^8 / 8! < 6e-9.
  float p = 1.0F / 5040.0F;
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  // 2^n as two factors, so that results below the smallest normal number come out right.
  const std::int32_t power =
      static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(shifted) - 0x4b400000U);
  const std::int32_t half = power >> 1;
  const auto power_of_two = [](std::int32_t exponent) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23U);
  };
  return p * power_of_two(half) * power_of_two(power - half);
}

inline double exp_of(double x) {
  return std::exp(x);
}

/// 1 / (1 + e^-x)
template <class T>
T sigmoid_of(T x) {
  return T{1} / (T{1} + exp_of(-x));
}

}  // namespace lamina::kernels::cpu
