// SPDX-License-Identifier: MIT
// RmsNorm: each row divided by its root mean square, scaled; alone or fused with the residual
// stream. Zhang, Sennrich 2019, https://arxiv.org/abs/1910.07467.
#pragma once

#include "autograd/ops.h"
#include "nn/module.h"

#include <optional>

namespace lamina::nn {

struct RmsNormOptions {
  double eps = 1e-5;
  std::optional<DType> dtype = {};  // of what forward() returns; by default that of x
  Output output = Output::kept;     // of the normalised rows
};

struct RmsNorm : Layer<RmsNorm> {
  explicit RmsNorm(std::int64_t width, const RmsNormOptions& options = {})
      : width(width), options(options) {}

  const std::int64_t width;
  const RmsNormOptions options;
  Var& weight = param("weight", {width}, init::ones);

  /// x: [..., width]; so is the result. Its dtype is `dtype`, by default that of the options.
  Var forward(const Var& x, std::optional<DType> dtype = {}) const {
    return rms_norm(x, weight, options.eps, dtype ? dtype : options.dtype, options.output);
  }

  /// As LayerNorm::add_and_normalize().
  AddNormResult add_and_normalize(const Var& residual, const Var& x, double p = 0.0,
                                  Generator& generator = default_generator()) const {
    const ProfileScope scope(path());
    return add_rms_norm(residual, x, weight, options.eps, is_training() ? p : 0.0, &generator,
                        options.output);
  }
};

}  // namespace lamina::nn
