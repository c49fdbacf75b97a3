// SPDX-License-Identifier: MIT
// Shape: up to six extents without a heap allocation. Products are checked against 64-bit overflow.
#pragma once

#include "core/error.h"
#include "core/text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>

namespace lamina {

/// a * b for non-negative extents. Throws ShapeError when the product does not fit 64 bits.
constexpr std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    throw ShapeError(cat("shape: ", a, " * ", b, " overflows, expected a size below 2^63"));
  }
  return product;
}

class Shape {
 public:
  static constexpr int kMaxRank = 6;

  constexpr Shape() = default;

  constexpr Shape(std::initializer_list<std::int64_t> extents)
      : Shape(std::span(extents.begin(), extents.size())) {}

  /// Throws ShapeError for more than six extents or a negative one.
  constexpr explicit Shape(std::span<const std::int64_t> extents)
      : rank_(static_cast<int>(extents.size())) {
    if (extents.size() > kMaxRank) {
      throw ShapeError(cat("shape: rank is ", extents.size(), ", expected at most ", kMaxRank));
    }
    std::copy(extents.begin(), extents.end(), extents_.begin());
    for (const std::int64_t extent : extents) {
      if (extent < 0) throw ShapeError(cat("shape: extent is ", extent, ", expected 0 or more"));
    }
  }

  constexpr int rank() const { return rank_; }

  /// Extent i; negative i counts from the end. Throws ShapeError outside [-rank, rank).
  constexpr std::int64_t operator[](int i) const { return extents_[at(i)]; }

  /// Number of elements; 1 for rank 0. Throws ShapeError on overflow.
  constexpr std::int64_t elements() const {
    std::int64_t product = 1;
    for (int i = 0; i < rank_; ++i)
      product = checked_mul(product, extents_[static_cast<std::size_t>(i)]);
    return product;
  }

  /// The same shape with extent i replaced.
  constexpr Shape with(int i, std::int64_t extent) const {
    Shape copy = *this;
    copy.extents_[at(i)] = extent;
    return copy;
  }

  /// The extents [begin, end); negative positions count from the end.
  constexpr Shape sub(int begin, int end) const {
    begin = begin < 0 ? begin + rank_ : begin;
    end = end < 0 ? end + rank_ : end;
    if (begin < 0 || end > rank_ || begin > end) {
      throw ShapeError(
          cat("shape: dimensions ", begin, " to ", end, " of ", *this, " do not exist"));
    }
    return Shape(std::span(extents_).subspan(static_cast<std::size_t>(begin),
                                             static_cast<std::size_t>(end - begin)));
  }

  constexpr std::span<const std::int64_t> extents() const {
    return std::span(extents_).first(static_cast<std::size_t>(rank_));
  }

  constexpr bool operator==(const Shape&) const = default;

  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '[';
    for (int i = 0; i < shape.rank_; ++i)
      out << (i > 0 ? ", " : "") << shape[i];
    return out << ']';
  }

 private:
  constexpr std::size_t at(int i) const {
    const int index = i < 0 ? i + rank_ : i;
    if (index < 0 || index >= rank_) {
      throw ShapeError(cat("shape: dimension ", i, " of ", *this, " does not exist"));
    }
    return static_cast<std::size_t>(index);
  }

  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace lamina
