// SPDX-License-Identifier: MIT
// nanoGPT's meta.pkl: {"vocab_size": n, "itos": {id: character}, "stoi": {character: id}} as a
// Python pickle. Nothing in it is executed: of pickle's operations those are read that make
// dictionaries, integers and texts. Format: https://docs.python.org/3/library/pickletools.html.
#pragma once

#include "examples/gpt/text.h"

#include <string>
#include <string_view>

namespace lamina::data {

/// Throws Error when there is something else in it, or when the characters are not in the order of
/// their code points, as nanoGPT has them.
Vocabulary vocabulary_from_meta(std::string_view pickle);

/// The inverse, of characters.
std::string meta_pickle(const Vocabulary& vocabulary);

}  // namespace lamina::data
