// SPDX-License-Identifier: MIT
// Text from a model.
#pragma once

#include "examples/gpt/generate.h"
#include "examples/gpt/scenes.h"
#include "examples/gpt/text.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

struct TextOptions {
  std::vector<std::string> stop = {};  // a sample ends before the first of these that it writes

  /// Hears of the text of each sample as it is written, beginning with its prompt, in whole
  /// characters.
  std::function<void(std::size_t sample, std::string_view text)> on_text = {};
};

/// The number of new tokens when `asked` is 0. Windows of the built-in corpus start with a scene,
/// so a model has not learned to go on from the middle of one: what fits in the context. Else 1000.
std::int64_t sample_length(std::int64_t asked, const std::string& corpus, std::int64_t context);

/// Continues `prompt` options.count times; each result starts with it. Without a prompt a sample
/// starts as a scene does, at a new line, or as a new text where the tokenizer has a token for the
/// end of one. A sample ends at that token.
std::vector<std::string> generate_text(Gpt& model, const data::Vocabulary& vocabulary,
                                       const std::string& prompt, const SampleOptions& options,
                                       const TextOptions& text = {});

/// What the samples, each from the start of a scene of corpus `preset`, get right together.
data::SampleReport judge(const std::vector<std::string>& samples, const std::string& preset);

/// "sample 1 of 4" and an empty line.
std::string heading(std::size_t sample, std::size_t count);

/// The verdict for a built-in corpus, "" for other data.
std::string verdict_text(const std::vector<std::string>& samples, const std::string& corpus);

/// The samples under headings, and the verdict.
std::string samples_text(const std::vector<std::string>& samples, const std::string& corpus);

}  // namespace lamina::gpt
