// SPDX-License-Identifier: MIT
// Conversions between the host types of any two dtypes. Floats round to nearest even on the way to
// narrower floats and truncate on the way to integers. Used by fill and copy.
#pragma once

#include "core/dtype.h"

#include <type_traits>

namespace lamina::kernels::cpu {

/// float for the 16-bit types, else the type itself: what arithmetic is done in.
template <class T>
using Wide = std::conditional_t<std::is_arithmetic_v<T>, T, float>;

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else {
    return static_cast<To>(static_cast<Wide<To>>(static_cast<Wide<From>>(value)));
  }
}

}  // namespace lamina::kernels::cpu
