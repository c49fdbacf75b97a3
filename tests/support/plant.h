// SPDX-License-Identifier: MIT
// Plants a NaN or an infinity in what an op makes.
#pragma once

#include "autograd/watch.h"
#include "core/dtype.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lamina::testing {

/// Numbers ops by pass: forward ops and then backward functions, in the order in which they run. A
/// view of a parameter is left as it is: the weights themselves would be bad.
class Plant : public OpWatch {
 public:
  struct Op {
    std::string name, scope;
    bool is_backward;
  };

  using Pass = std::vector<Op>;

  /// Nothing: for counting ops.
  Plant() = default;

  /// `value` in op number `at` of the passes [first, last].
  Plant(double value, std::size_t at, std::size_t first, std::size_t last = SIZE_MAX)
      : value_(value), at_(at), first_(first), last_(last) {}

  void forward(std::string_view op, std::string_view scope, std::span<const Var> inputs,
               std::span<const Tensor> outputs) override {
    if (passes.empty() || (!passes.back().empty() && passes.back().back().is_backward)) {
      passes.emplace_back();
    }
    const bool is_view = std::any_of(inputs.begin(), inputs.end(), [&](const Var& input) {
      return input.state() && input.state()->is_parameter &&
             is_inside(outputs.front(), input.value());
    });
    count(op, scope, false, is_view ? std::span<const Tensor>() : outputs);
  }

  void backward(std::string_view op, std::string_view scope,
                std::span<const Tensor> gradients) override {
    count(op, scope, true, gradients);
  }

  std::vector<Pass> passes;
  bool has_planted = false;

 private:
  static bool is_inside(const Tensor& part, const Tensor& whole) {
    const auto* const at = static_cast<const std::byte*>(part.data());
    const auto* const start = static_cast<const std::byte*>(whole.data());
    return at >= start && at < start + whole.bytes();
  }

  void count(std::string_view op, std::string_view scope, bool is_backward,
             std::span<const Tensor> made) {
    const std::size_t pass = passes.size() - 1, number = passes.back().size();
    passes.back().push_back({std::string(op), std::string(scope), is_backward});
    if (number != at_ || pass < first_ || pass > last_) return;
    for (Tensor tensor : made) {
      if (!tensor || !is_float(tensor.dtype())) continue;
      tensor.fill(value_);
      has_planted = true;
      return;
    }
  }

  double value_ = 0.0;
  std::size_t at_ = SIZE_MAX, first_ = 0, last_ = SIZE_MAX;
};

}  // namespace lamina::testing
