// SPDX-License-Identifier: MIT
// GPT-2: pre-norm transformer blocks, learned positions, tied head. Radford et al. 2019,
// https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
// The residual adds are fused with the LayerNorm that follows: a block hands on what is still to be
// added instead of adding it.
#pragma once

#include "autograd/recompute.h"
#include "nn/nn.h"

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace lamina::gpt {

/// What the backward pass makes again instead of keeping it.
struct Recompute {
  bool norm = false;   // what LayerNorm hands to linear layers: one more run of its kernel
  bool gelu = false;   // what GELU hands to a linear layer, the same; see linear_gelu()
  bool block = false;  // all of a block but its inputs: another forward pass of it
};

struct GptConfig {
  int layers = 12, heads = 12;
  std::int64_t width = 768, context = 1024, vocab = 50257;
  double dropout = 0.0;
  bool bias = true;
  bool wide_residual = false;  // the residual stream is f32 also where the model is f16 or bf16
  Recompute recompute = {};
  std::int64_t logit_rows = 0;  // of the logits that loss() holds at a time; 0: all

  /// Rows of the token embedding: a multiple of 64, which matrix products like. The rest is never
  /// used.
  std::int64_t padded_vocab() const { return (vocab + 63) / 64 * 64; }

  nn::LayerNormOptions norm_options() const {
    return {.bias = bias, .output = recompute.norm ? Output::recomputed : Output::kept};
  }
};

/// The value at a point of the residual stream is stream + dropout(branch).
struct Residual {
  Var stream,
      branch;  // [batch, time, width]; branch is an empty handle when there is nothing to add
};

struct Block : Layer<Block> {
  explicit Block(const GptConfig& config) : config(config) {}

  const GptConfig config;
  const init::Initializer weight_init = init::normal(0.02);
  const init::Initializer residual_init = init::normal(0.02 / std::sqrt(2.0 * config.layers));

  nn::LayerNorm& norm_1 = add<nn::LayerNorm>("norm_1", config.width, config.norm_options());
  nn::CausalSelfAttention& attention = add<nn::CausalSelfAttention>(
      "attention", config.width, config.heads,
      nn::AttentionOptions{config.dropout, config.bias, weight_init, residual_init});
  nn::LayerNorm& norm_2 = add<nn::LayerNorm>("norm_2", config.width, config.norm_options());
  nn::Mlp& mlp = add<nn::Mlp>(
      "mlp", config.width,
      nn::MlpOptions{.bias = config.bias,
                     .up_init = weight_init,
                     .down_init = residual_init,
                     .gelu = config.recompute.gelu ? Output::recomputed : Output::kept});

  /// With a cache: of the positions that follow those in it. Without gradients.
  Residual forward(const Residual& in, const nn::AttentionCache* cache = nullptr) {
    const auto [x, normed_x] = normalize(norm_1, in);
    const Var attended = cache != nullptr ? attention(normed_x, *cache) : attention(normed_x);
    const auto [h, normed_h] = normalize(norm_2, {x, attended});
    return {h, mlp(normed_h)};
  }

  AddNormResult normalize(nn::LayerNorm& norm, const Residual& at) const {
    if (!at.branch) return {at.stream, norm(at.stream, attention.qkv.weight.dtype())};
    return norm.add_and_normalize(at.stream, at.branch, config.dropout);
  }
};

/// What each block keeps of the positions seen so far; the position is the same tensor in all.
using GptCache = std::vector<nn::AttentionCache>;

struct Gpt : Layer<Gpt> {
  explicit Gpt(const GptConfig& config) : config(config) {}

  const GptConfig config;

  nn::Embedding& tokens =
      add<nn::Embedding>("tokens", config.padded_vocab(), config.width, init::normal(0.02));
  nn::Embedding& positions =
      add<nn::Embedding>("positions", config.context, config.width, init::normal(0.02));
  nn::Dropout& dropout = add<nn::Dropout>("dropout", config.dropout);
  List<Block>& blocks = add<List<Block>>("blocks", config.layers, config);
  nn::LayerNorm& norm = add<nn::LayerNorm>("norm", config.width, config.norm_options());

  /// ids: [batch, time], i32, time <= context. Result: logits [batch, time, padded_vocab()].
  Var forward(const Tensor& ids) {
    const Var x = features(ids);
    const ProfileScope scope("head");
    return linear(x, tokens.weight);
  }

  /// What the head turns into logits: [batch, time, width].
  Var features(const Tensor& ids, const GptCache& cache = {}) {
    Residual x{embed(ids, cache), {}};
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      x = !cache.empty()           ? blocks[i](x, &cache[i])
          : config.recompute.block ? recomputed(blocks[i], x)
                                   : blocks[i](x);
    }
    return norm.add_and_normalize(x.stream, x.branch, config.dropout).normalized;
  }

  Var embed(const Tensor& ids, const GptCache& cache = {}) {
    const ProfileScope scope("embed");
    const bool is_next = !cache.empty() && ids.dim(-1) == 1;
    const Var places =
        is_next ? positions(cache.front().position) : slice(positions.weight, 0, 0, ids.dim(-1));
    const Var sum = dropout(tokens(ids) + places);
    return config.wide_residual ? convert(sum, DType::f32) : sum;
  }

  static Residual recomputed(Block& block, const Residual& in) {
    const auto out = recompute({in.stream, in.branch}, [&block](const std::vector<Var>& again) {
      const Residual result = block(Residual{again[0], again[1]});
      return std::vector<Var>{result.stream, result.branch};
    });
    return {out[0], out[1]};
  }

  /// Mean cross-entropy of the next token. ids, targets: [batch, time], i32.
  Var loss(const Tensor& ids, const Tensor& targets) {
    if (config.logit_rows > 0) {
      const Var x = features(ids);
      const ProfileScope scope("head");
      return linear_cross_entropy(x, tokens.weight, targets,
                                  {.classes = config.vocab, .rows = config.logit_rows});
    }
    Var logits = (*this)(ids);
    const ProfileScope scope("loss");
    return cross_entropy(std::move(logits), targets, {.classes = config.vocab});
  }
};

}  // namespace lamina::gpt
