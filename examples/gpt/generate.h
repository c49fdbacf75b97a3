// SPDX-License-Identifier: MIT
// Tokens from a model, one after the other. All samples of a call are written together, as one
// batch; keys and values of earlier tokens are kept, and on CUDA a step is one captured graph.
#pragma once

#include "examples/gpt/model.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace lamina::gpt {

struct SampleOptions {
  std::int64_t count = 1;
  std::int64_t length = 400;        // new tokens
  double temperature = 1.0;         // 0: always the likeliest token
  std::int64_t top_k = 0;           // draw among the likeliest; 0: no limit
  double top_p = 1.0;               // and among the fewest with that probability
  double repetition_penalty = 1.0;  // of tokens that a sample has; kernels::DrawTokens says how
  std::uint64_t seed = 1337;
  bool use_cache = true;  // false: each token runs all those before it again, for tests

  /// Hears of each new token, in order, with its log-probability by the model's own logits. false:
  /// the sample ends with it.
  std::function<bool(std::size_t sample, std::int32_t token, float log_prob)> take = {};
  std::function<bool()> is_stopped = {};  // asked now and then; true: all samples end
};

struct Sample {
  std::vector<std::int32_t> tokens;  // with the prompt
  std::vector<float> log_probs;      // of the tokens behind the prompt

  bool operator==(const Sample&) const = default;
};

/// Continues `prompt` (at least one token) `count` times. The model sees the last `context` tokens
/// and runs in evaluation mode. Until the context is full a token costs one position; from then on,
/// as every token moves to another position, a whole context. Throws Error when logits are not
/// finite.
std::vector<Sample> generate(Gpt& model, std::span<const std::int32_t> prompt,
                             const SampleOptions& options);

}  // namespace lamina::gpt
