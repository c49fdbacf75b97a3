// SPDX-License-Identifier: MIT
// Conversions between the host types of any two dtypes. Floats round to nearest even on the way to
// narrower floats and truncate on the way to integers. Used by fill and copy.
#pragma once

#include "core/dtype.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace lamina::kernels::cpu {

/// float for the 16-bit types, else the type itself: what arithmetic is done in.
template <class T>
using Wide = std::conditional_t<std::is_arithmetic_v<T>, T, float>;

/// To float, inexact values to the neighbour with an odd last bit: a later rounding to 16 bits is
/// then the same as from the double itself.
inline float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  const auto back = static_cast<double>(nearest);
  if (back == value || !std::isfinite(nearest)) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::abs(back) > std::abs(value)) --bits;  // towards zero
  return std::bit_cast<float>(bits | 1U);
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (!std::is_arithmetic_v<To> && std::is_arithmetic_v<From> &&
                       !std::is_same_v<From, float>) {
    return To(round_to_odd(static_cast<double>(value)));
  } else {
    return static_cast<To>(static_cast<Wide<To>>(static_cast<Wide<From>>(value)));
  }
}

}  // namespace lamina::kernels::cpu
