// SPDX-License-Identifier: MIT
// Byte-pair tokenizers in the forms that others use: tokenizer.json of Hugging Face's tokenizers,
// and GPT-2's merges.txt with or without vocab.json. Files write a token with one printable
// character for each byte, "Ġthe" for " the", as
// https://github.com/openai/gpt-2/blob/master/src/encoder.py. What would change the ids and is not
// implemented here is refused by name.
#pragma once

#include "examples/gpt/bpe.h"

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace lamina::data {

/// The 256 bytes in the order of their characters' code points: GPT-2's first 256 tokens.
const std::array<unsigned char, 256>& gpt2_byte_order();

/// Bytes as printable characters.
std::string symbols_of(std::string_view bytes);

/// The inverse; nothing when text has a character that stands for no byte.
std::optional<std::string> bytes_of_symbols(std::string_view text);

/// The tokenizer of a tokenizer.json. Throws Error that names the field.
Bpe bpe_from_json(const nlohmann::json& json);

/// The inverse of bpe_from_json. Its pre-tokenizer is ByteLevel, with GPT-2's pattern or without.
nlohmann::json bpe_json(const Bpe& bpe);

/// The tokenizer of a merges.txt. With the text of a vocab.json ids are as it says, and what is
/// neither a byte nor the result of a merge is a special token. Without: bytes in
/// gpt2_byte_order(), results of merges, "<|endoftext|>". Throws Error that names the line.
Bpe bpe_from_merges(std::string_view merges, std::optional<std::string_view> vocab);

}  // namespace lamina::data
