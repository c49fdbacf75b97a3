// SPDX-License-Identifier: MIT
// Host matrices and vectors with random contents for tests of kernels on raw views, and comparisons
// with a reference in double. Row padding holds a marker that kernels must leave alone.
#pragma once

#include "core/dtype.h"
#include "core/stream.h"
#include "core/view.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <omp.h>
#include <random>
#include <type_traits>
#include <vector>

namespace lamina::testing {

inline constexpr CpuStream kStream{};

/// Uniform in [-1, 1); for integers 0.
template <class T>
std::vector<T> random_values(std::int64_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> uniform(-1.0, 1.0);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& value : values) {
    if constexpr (std::is_floating_point_v<T>) value = static_cast<T>(uniform(engine));
  }
  return values;
}

template <class T>
struct Matrix {
  static constexpr T kMarker = T{77};

  std::int64_t rows, cols, stride;
  std::vector<T> data;

  Matrix(std::int64_t row_count, std::int64_t col_count, unsigned seed, std::int64_t padding = 0)
      : rows(row_count),
        cols(col_count),
        stride(col_count + padding),
        data(random_values<T>(row_count * stride, seed)) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = cols; c < stride; ++c)
        (*this)(r, c) = kMarker;
    }
  }

  T& operator()(std::int64_t r, std::int64_t c) {
    return data[static_cast<std::size_t>(r * stride + c)];
  }

  const T& operator()(std::int64_t r, std::int64_t c) const {
    return data[static_cast<std::size_t>(r * stride + c)];
  }

  Rows view() const {
    return {.data = const_cast<T*>(data.data()),
            .rows = rows,
            .cols = cols,
            .stride = stride,
            .dtype = dtype_of<T>};
  }
};

template <class T>
struct Buffer {
  std::vector<T> data;

  Buffer(std::int64_t count, unsigned seed) : data(random_values<T>(count, seed)) {}

  Buffer(std::initializer_list<T> values) : data(values) {}

  T& operator[](std::int64_t i) { return data[static_cast<std::size_t>(i)]; }

  const T& operator[](std::int64_t i) const { return data[static_cast<std::size_t>(i)]; }

  Flat view() const {
    return {.data = const_cast<T*>(data.data()),
            .size = static_cast<std::int64_t>(data.size()),
            .dtype = dtype_of<T>};
  }
};

/// Arguments with a workspace of exactly the size that they ask for.
template <class Args>
struct Workspace {
  Args args;
  std::vector<double> memory;  // doubles, so that it is aligned

  explicit Workspace(const Args& given) : args(given) {
    const std::int64_t bytes = workspace_bytes(args, CpuStream{});
    memory.resize(static_cast<std::size_t>((bytes + 7) / 8));
    args.workspace = {.data = memory.data(), .size = bytes, .dtype = DType::u8};
  }
};

/// What sums of a thousand terms of size 1 may be off by.
template <class T>
constexpr double tolerance() {
  return std::is_same_v<T, float> ? 4e-5 : 1e-12;
}

/// |got - want| <= tolerance * (1 + |want|)
template <class T>
::testing::AssertionResult is_close(T got, double want, double least_tolerance) {
  const double limit = std::max(tolerance<T>(), least_tolerance) * (1.0 + std::abs(want));
  if (std::abs(static_cast<double>(got) - want) <= limit) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "got " << got << ", expected " << want << " +- " << limit;
}

/// Compares every element with want(row, col), and the padding with its marker.
template <class T, class Want>
void expect_close(const Matrix<T>& got, const Want& want, double least_tolerance = 0.0) {
  for (std::int64_t r = 0; r < got.rows; ++r) {
    for (std::int64_t c = 0; c < got.cols; ++c) {
      ASSERT_TRUE(is_close(got(r, c), static_cast<double>(want(r, c)), least_tolerance))
          << "at (" << r << ", " << c << ") of " << got.rows << " x " << got.cols;
    }
    for (std::int64_t c = got.cols; c < got.stride; ++c) {
      ASSERT_EQ(got(r, c), Matrix<T>::kMarker) << "padding of row " << r;
    }
  }
}

/// Compares every element with want(i).
template <class T, class Want>
void expect_close(const Buffer<T>& got, const Want& want, double least_tolerance = 0.0) {
  for (std::size_t i = 0; i < got.data.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    ASSERT_TRUE(is_close(got.data[i], static_cast<double>(want(index)), least_tolerance))
        << "at " << i << " of " << got.data.size();
  }
}

/// Expects compute() to return the same bits with 1, 2 and 3 threads.
template <class Compute>
void expect_same_for_any_threads(const Compute& compute) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto want = compute();
  for (const int threads : {2, 3}) {
    omp_set_num_threads(threads);
    const auto got = compute();
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i], want[i]) << threads << " threads, element " << i;
      if (got[i] != want[i]) break;
    }
  }
  omp_set_num_threads(before);
}

/// Equal but for `bound`: compilers may contract one instantiation's a * b + c and not another's.
template <class Got, class Want>
inline void expect_near(const char* name, const Got& got, const Want& want, double bound) {
  ASSERT_EQ(got.size(), want.size()) << name;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto value = static_cast<double>(want[i]);
    ASSERT_NEAR(static_cast<double>(got[i]), value, bound * (1.0 + std::abs(value)))
        << name << " " << i;
  }
}

}  // namespace lamina::testing
