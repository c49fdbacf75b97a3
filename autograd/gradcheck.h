// SPDX-License-Identifier: MIT
// gradcheck(): the gradient of a function against central differences, in f64 on the CPU.
#pragma once

#include "autograd/var.h"

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace lamina {

struct GradcheckOptions {
  double step = 1e-5;       // relative to max(1, |x|)
  double tolerance = 1e-6;  // of |numeric - analytic| / max(largest |numeric| of the input, 1e-3)
  std::uint64_t seed = 7;   // of the random projection that makes the output a scalar
};

struct GradcheckResult {
  bool passed = false;
  double worst = 0.0;   // largest relative error
  std::string message;  // input, position and both values of the worst element

  explicit operator bool() const { return passed; }
};

/// Checks d f / d inputs for every element. The inputs must be f64 on the CPU; f must be a pure
/// function of them (a Generator is reset inside f).
GradcheckResult gradcheck(const std::function<Var(std::span<const Var>)>& f,
                          const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

/// The same for a function of one input.
GradcheckResult gradcheck(const std::function<Var(const Var&)>& f, const Tensor& input,
                          const GradcheckOptions& options = {});

}  // namespace lamina
