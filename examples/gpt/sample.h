// SPDX-License-Identifier: MIT
// Text from a model, token by token. All samples of a call are written together, as one batch.
#pragma once

#include "examples/gpt/model.h"
#include "examples/gpt/scenes.h"
#include "examples/gpt/text.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace lamina::gpt {

struct SampleOptions {
  std::int64_t count = 1;
  std::int64_t length = 400;  // new tokens
  double temperature = 1.0;   // 0: always the likeliest token
  std::int64_t top_k = 0;     // 0: no limit
  std::uint64_t seed = 1337;
  std::function<bool()> is_stopped = {};  // asked before each token; true: the samples end there
};

/// The number of new tokens when `asked` is 0. Windows of the built-in corpus start with a scene,
/// so a model has not learned to go on from the middle of one: what fits in the context. Else 1000.
std::int64_t sample_length(std::int64_t asked, const std::string& corpus, std::int64_t context);

/// Continues `prompt` (at least one token) `count` times; each result starts with the prompt. The
/// model sees the last `context` tokens and runs in evaluation mode. Throws Error when its logits
/// are not finite.
std::vector<std::vector<std::int32_t>> generate(Gpt& model, std::span<const std::int32_t> prompt,
                                                const SampleOptions& options);

/// The same in text. Without a prompt a sample starts as a scene does, or at a new line.
std::vector<std::string> generate_text(Gpt& model, const data::Vocabulary& vocabulary,
                                       const std::string& prompt, const SampleOptions& options);

/// What the samples, each from the start of a scene of corpus `preset`, get right together.
data::SampleReport judge(const std::vector<std::string>& samples, const std::string& preset);

/// The samples under headings, and the verdict for a built-in corpus ("" for other data).
std::string samples_text(const std::vector<std::string>& samples, const std::string& corpus);

}  // namespace lamina::gpt
