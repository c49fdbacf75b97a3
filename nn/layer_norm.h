// SPDX-License-Identifier: MIT
// LayerNorm: each row to zero mean and unit variance, scaled and shifted; alone or fused with the
// residual stream. Ba et al. 2016, https://arxiv.org/abs/1607.06450.
#pragma once

#include "autograd/ops.h"
#include "nn/module.h"

#include <optional>

namespace lamina::nn {

struct LayerNormOptions {
  double eps = 1e-5;
  bool bias = true;
  std::optional<DType> dtype = {};  // of what forward() returns; by default that of x
  Output output = Output::kept;     // of the normalised rows
};

struct LayerNorm : Layer<LayerNorm> {
  explicit LayerNorm(std::int64_t width, const LayerNormOptions& options = {})
      : width(width), options(options) {}

  const std::int64_t width;
  const LayerNormOptions options;
  Var& weight = param("weight", {width}, init::ones);
  Var no_bias;
  Var& bias = options.bias ? param("bias", {width}, init::zeros) : no_bias;

  /// x: [..., width]; so is the result. Its dtype is `dtype`, by default that of the options.
  Var forward(const Var& x, std::optional<DType> dtype = {}) const {
    return layer_norm(x, weight, bias, options.eps, dtype ? dtype : options.dtype, options.output);
  }

  /// sum = residual + dropout(x, p) and its normalisation, in one kernel. The sum has the dtype of
  /// residual, which may be wider than that of x. Dropout only in training mode.
  AddNormResult add_and_normalize(const Var& residual, const Var& x, double p = 0.0,
                                  Generator& generator = default_generator()) const {
    const ProfileScope scope(path());
    return add_layer_norm(residual, x, weight, bias, options.eps, is_training() ? p : 0.0,
                          &generator, options.output);
  }
};

}  // namespace lamina::nn
