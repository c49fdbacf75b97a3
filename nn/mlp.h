// SPDX-License-Identifier: MIT
// Mlp: the two-layer perceptron of a transformer block, width -> hidden -> width with GELU (tanh
// form).
#pragma once

#include "nn/linear.h"

namespace lamina::nn {

struct MlpOptions {
  std::int64_t hidden = 0;  // 0: 4 * width
  bool bias = true;
  init::Initializer up_init = {}, down_init = {};  // empty: the default of Linear
  Output gelu = Output::kept;                      // of the activation
};

struct Mlp : Layer<Mlp> {
  explicit Mlp(std::int64_t width, const MlpOptions& options = {})
      : width(width), hidden(options.hidden > 0 ? options.hidden : 4 * width), options(options) {}

  const std::int64_t width, hidden;
  const MlpOptions options;
  Linear& up = add<Linear>("up", width, hidden, LinearOptions{options.bias, options.up_init});
  Linear& down = add<Linear>("down", hidden, width, LinearOptions{options.bias, options.down_init});

  /// x: [..., width]; so is the result.
  Var forward(const Var& x) { return down(activate(x)); }

 private:
  // The layer `up` and the activation, in one pass after the product.
  Var activate(const Var& x) const {
    const ProfileScope scope(up.path());
    return linear_gelu(x, up.weight, up.bias, options.gelu);
  }
};

}  // namespace lamina::nn
