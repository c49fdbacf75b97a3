// SPDX-License-Identifier: MIT
// Linear: y = x weight^T + bias.
#pragma once

#include "autograd/ops.h"
#include "nn/module.h"

#include <cmath>

namespace lamina::nn {

struct LinearOptions {
  bool bias = true;
  init::Initializer weight_init = {};  // empty: uniform in +-1 / sqrt(in)
};

struct Linear : Layer<Linear> {
  Linear(std::int64_t in, std::int64_t out, const LinearOptions& options = {})
      : in(in), out(out), options(options) {}

  const std::int64_t in, out;
  const LinearOptions options;
  Var& weight =
      param("weight", {out, in},
            options.weight_init ? options.weight_init
                                : init::uniform(1.0 / std::sqrt(static_cast<double>(in))));
  Var no_bias;
  Var& bias = options.bias ? param("bias", {out}, init::zeros) : no_bias;

  /// x: [..., in]. Result: [..., out].
  Var forward(const Var& x) const { return linear(x, weight, bias); }
};

}  // namespace lamina::nn
