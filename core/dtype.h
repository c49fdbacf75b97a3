// SPDX-License-Identifier: MIT
// Element types, and the 16-bit float types of the host (storage only: convert to compute).
// dispatch_float() turns a runtime dtype of a CPU tensor into a template argument.
#pragma once

#include "core/error.h"
#include "core/text.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>

namespace lamina {

enum class DType : std::uint8_t { f32, f16, bf16, f64, i32, i64, u8 };

/// Bytes per element.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::f64:
      return "f64";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
  }
  return "?";
}

constexpr bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f64;
}

inline std::ostream& operator<<(std::ostream& out, DType dtype) {
  return out << name_of(dtype);
}

/// bfloat16: the upper half of a float, rounded to nearest even.
struct BFloat16 {
  std::uint16_t bits = 0;

  BFloat16() = default;

  explicit BFloat16(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    const bool is_nan = (word & 0x7fffffffU) > 0x7f800000U;
    bits = static_cast<std::uint16_t>(is_nan ? (word >> 16U) | 0x40U
                                             : (word + 0x7fffU + ((word >> 16U) & 1U)) >> 16U);
  }

  explicit operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16U); }
};

/// IEEE binary16, rounded to nearest even.
struct Half {
  std::uint16_t bits = 0;

  Half() = default;
  explicit Half(float value);
  explicit operator float() const;
};

namespace detail {
template <class T>
struct DTypeOf;

template <>
struct DTypeOf<float> {
  static constexpr DType kValue = DType::f32;
};

template <>
struct DTypeOf<double> {
  static constexpr DType kValue = DType::f64;
};

template <>
struct DTypeOf<Half> {
  static constexpr DType kValue = DType::f16;
};

template <>
struct DTypeOf<BFloat16> {
  static constexpr DType kValue = DType::bf16;
};

template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType kValue = DType::i32;
};

template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType kValue = DType::i64;
};

template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType kValue = DType::u8;
};
}  // namespace detail

/// The dtype of a host element type: dtype_of<float> == DType::f32.
template <class T>
inline constexpr DType dtype_of = detail::DTypeOf<T>::kValue;

/// Calls `f.operator()<float>()` or `<double>()`: the types that CPU kernels compute in.
/// Throws DTypeError naming `op` for any other dtype.
template <class F>
decltype(auto) dispatch_float(DType dtype, std::string_view op, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    default:
      throw DTypeError(cat(op, ": dtype is ", dtype,
                           ", expected f32 or f64 (what the CPU computes in)",
                           "; convert with .to(DType::f32)"));
  }
}

/// Calls `f.operator()<T>()` with the host element type of any dtype.
template <class F>
decltype(auto) dispatch_all(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f16:
      return f.template operator()<Half>();
    case DType::bf16:
      return f.template operator()<BFloat16>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::u8:
      break;
  }
  return f.template operator()<std::uint8_t>();
}

}  // namespace lamina
