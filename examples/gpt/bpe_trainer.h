// SPDX-License-Identifier: MIT
// Makes a byte-pair tokenizer from a text: of all neighbours inside pieces the most frequent become
// a token, again and again. Sennrich et al. 2016, algorithm 1.
#pragma once

#include "examples/gpt/bpe.h"

#include <cstdint>
#include <string_view>

namespace lamina::data {

/// The 256 bytes in GPT-2's order, up to `size` - 257 merges, and last "<|endoftext|>", which is
/// special. Of neighbours that are equally frequent those with the lower ids are merged first, so
/// that a text has one tokenizer. The result is smaller when the text has no more neighbours to
/// merge. `size` is at least 257. Time: linear in the text, then by occurrences of what is merged.
Bpe train_bpe(std::string_view text, std::int64_t size);

}  // namespace lamina::data
