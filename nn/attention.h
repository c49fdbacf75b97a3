// SPDX-License-Identifier: MIT
// CausalSelfAttention: packed query-key-value projection, attention over earlier positions, output
// projection. Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.2.
#pragma once

#include "nn/linear.h"

namespace lamina::nn {

struct AttentionOptions {
  double dropout = 0.0;  // of the attention probabilities, in training mode
  bool bias = true;
  init::Initializer qkv_init = {}, project_init = {};  // empty: the default of Linear
};

struct CausalSelfAttention : Layer<CausalSelfAttention> {
  CausalSelfAttention(std::int64_t width, int heads, const AttentionOptions& options = {},
                      Generator* generator = nullptr)
      : width(width), heads(heads), options(options), generator(generator) {}

  const std::int64_t width;
  const int heads;  // divides width
  const AttentionOptions options;
  Generator* const generator;  // nullptr: the default generator of the calling thread
  Linear& qkv = add<Linear>("qkv", width, 3 * width, LinearOptions{options.bias, options.qkv_init});
  Linear& project =
      add<Linear>("project", width, width, LinearOptions{options.bias, options.project_init});

  /// x: [batch, time, width]; so is the result.
  Var forward(const Var& x) {
    const double p = is_training() ? options.dropout : 0.0;
    Generator& numbers = generator ? *generator : default_generator();
    return project(attention(qkv(x), heads, {.causal = true, .drop_p = p, .generator = &numbers}));
  }
};

}  // namespace lamina::nn
