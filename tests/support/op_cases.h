// SPDX-License-Identifier: MIT
// The op table: one row per op of autograd/ops.h, with random calls, a naive f64 reference of the
// forward pass, and the mistakes the op must refuse. Read by tests/autograd/ops_test.cpp, which
// fails for an op without a row.
#pragma once

#include "autograd/ops.h"

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <vector>

namespace lamina::testing {

using Values = std::vector<double>;  // row-major elements of one tensor

/// One random call of an op.
struct OpCall {
  std::string text;            // options, for messages
  std::vector<Tensor> inputs;  // f64 on the CPU: what the op is differentiated by
  std::function<std::vector<Var>(std::span<const Var>)> op;  // on the device of its inputs
  std::function<std::vector<Values>(const std::vector<Values>&)>
      reference;  // input -> output values
};

/// A call that must throw exactly `type`, with `fragment` in its text.
struct ErrorCase {
  const std::type_info* type;
  std::string fragment;
  std::function<void()> call;
};

template <class E>
ErrorCase error_case(std::string fragment, std::function<void()> call) {
  return {&typeid(E), std::move(fragment), std::move(call)};
}

/// Random shapes and data. The first calls of a series have one row, one column, and both.
class Sampler {
 public:
  enum class Size { small, large };

  Sampler(int index, Size size) : index_(index), size_(size), engine_(9001U + unsigned(index)) {}

  bool is_large() const { return size_ == Size::large; }

  /// A number in [low, high].
  std::int64_t integer(std::int64_t low, std::int64_t high);

  bool coin() { return integer(0, 1) == 1; }

  /// One of the values.
  double pick(std::initializer_list<double> values);

  std::int64_t row_extent();  // small: 1 to 9
  std::int64_t col_extent();  // small: 1 to 33

  /// One to `leading` row extents and a column extent.
  Shape matrix_shape(int leading = 2);

  /// The same, or a column extent alone.
  Shape any_shape() { return coin() ? matrix_shape() : Shape{col_extent()}; }

  /// Standard normal values.
  Tensor normal(const Shape& shape);

  /// Values that alternate between about -1.5 and 1.5 along a row, for ops that divide by a norm or
  /// have a kink at 0: differences are accurate there.
  Tensor spread(const Shape& shape);

  /// i32 values in [low, high].
  Tensor integers(const Shape& shape, std::int64_t low, std::int64_t high);

 private:
  int index_;
  Size size_;
  std::mt19937_64 engine_;
};

struct OpCase {
  std::string_view name;
  std::function<OpCall(Sampler&)> make;
  std::vector<ErrorCase> errors;
};

/// All rows.
const std::vector<OpCase>& op_cases();

/// The rows of op_cases() by group, each defined in its own file.
std::vector<OpCase> elementwise_cases();
std::vector<OpCase> transformer_cases();
std::vector<OpCase> view_cases();

}  // namespace lamina::testing
