// SPDX-License-Identifier: MIT
// How GPT-2 cuts a text into pieces before its tokenizer merges bytes: never across a piece. The
// pattern is
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// of https://github.com/openai/gpt-2/blob/master/src/encoder.py, here by hand: linear in time.
#pragma once

#include <cstddef>
#include <string_view>

namespace lamina::data {

/// Bytes of the first piece of text, at least one; 0 for an empty text. A byte that is not UTF-8 is
/// a character of its own, neither a letter, a number nor a blank.
std::size_t first_gpt2_piece(std::string_view text);

/// The first place from `at` on where text can be cut so that both parts have the pieces of the
/// whole: before a blank that follows something else, as no piece goes on there. text.size() when
/// there is none.
std::size_t gpt2_cut(std::string_view text, std::size_t at);

}  // namespace lamina::data
