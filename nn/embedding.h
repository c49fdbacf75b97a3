// SPDX-License-Identifier: MIT
// Embedding: a row of the weight for each token.
#pragma once

#include "autograd/ops.h"
#include "nn/module.h"

namespace lamina::nn {

struct Embedding : Layer<Embedding> {
  Embedding(std::int64_t count, std::int64_t width,
            const init::Initializer& weight_init = init::normal(1.0))
      : count(count), width(width), weight_init(weight_init) {}

  const std::int64_t count, width;
  const init::Initializer weight_init;
  Var& weight = param("weight", {count, width}, weight_init);

  /// tokens: any shape, i32, in [0, count). Result: the shape of tokens + [width].
  Var forward(const Tensor& tokens) const { return embedding(tokens, weight); }
};

}  // namespace lamina::nn
