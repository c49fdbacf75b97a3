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

/// Keys and values of the positions that one layer has seen, for generation token by token.
struct AttentionCache {
  Tensor entries;   // [batch, capacity, 2 * width], of the layer's dtype: keys before values
  Tensor position;  // [1], i32, on the device: how many positions there are; the caller moves it on
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

  /// The same for the positions that follow those in the cache, which takes them in; without
  /// dropout, under NoGrad. x: [batch, 1, width], or [batch, time, width] for an empty cache.
  Var forward(const Var& x, const AttentionCache& cache) {
    const Var packed = qkv(x);
    if (x.dim(1) == 1) {
      return project(Var(cached_attention(packed.value(), heads, cache.entries, cache.position)));
    }
    const Tensor entries = packed.value().slice(2, width, 3 * width);
    cache.entries.slice(1, 0, x.dim(1)).copy_from(entries);
    return project(attention(packed, heads, {.causal = true}));
  }
};

}  // namespace lamina::nn
