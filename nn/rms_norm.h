// SPDX-License-Identifier: MIT
// RmsNorm: each row divided by its root mean square, scaled.
// Zhang, Sennrich 2019, https://arxiv.org/abs/1910.07467.
#pragma once

#include "autograd/ops.h"
#include "nn/module.h"

namespace lamina::nn {

struct RmsNorm : Layer<RmsNorm> {
  explicit RmsNorm(std::int64_t width, double eps = 1e-5, Output output = Output::kept)
      : width(width), eps(eps), output(output) {}

  const std::int64_t width;
  const double eps;
  const Output output;
  Var& weight = param("weight", {width}, init::ones);

  /// x: [..., width]; so is the result.
  Var forward(const Var& x) const { return rms_norm(x, weight, eps, output); }
};

}  // namespace lamina::nn
