// SPDX-License-Identifier: MIT
// Raw views that kernels take: a pointer, extents and a dtype. Trivially copyable, no ownership.
// Rows is a matrix whose rows are contiguous and may have a pitch; Flat is a contiguous vector.
// An empty view (null pointer) stands for an operand that is not there, such as a missing bias.
#pragma once

#include "core/dtype.h"

#include <cstdint>

namespace lamina {

struct Rows {
  void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;  // elements from one row to the next, >= cols
  DType dtype = DType::f32;

  explicit operator bool() const { return data != nullptr; }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

  std::int64_t elements() const { return rows * cols; }
};

struct Flat {
  void* data = nullptr;
  std::int64_t size = 0;
  DType dtype = DType::f32;

  explicit operator bool() const { return data != nullptr; }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

/// Bytes that one pass over the view moves.
inline std::int64_t bytes_of(const Rows& view) {
  return view.data ? view.elements() * static_cast<std::int64_t>(size_of(view.dtype)) : 0;
}

inline std::int64_t bytes_of(const Flat& view) {
  return view.data ? view.size * static_cast<std::int64_t>(size_of(view.dtype)) : 0;
}

/// What a kernel must do at least: the numerator of GB/s, TFLOP/s and percent of roofline.
struct Cost {
  std::int64_t bytes = 0;  // read plus written, each operand once
  std::int64_t flops = 0;
};

/// How a gradient is written: not at all, replacing what is there, or added to it.
enum class GradWrite : std::uint8_t { skip, overwrite, accumulate };

}  // namespace lamina
