// SPDX-License-Identifier: MIT
// Vocabularies in files that other programs read and write: tokenizer.json, and GPT-2's merges.txt.
#pragma once

#include "examples/gpt/text.h"

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace lamina::data {

/// Reads a tokenizer.json, a merges.txt (with the vocab.json beside it if there is one), or a
/// directory with either, in this order. Throws Error with the path.
Vocabulary read_tokenizer(const std::filesystem::path& path);

/// What a tokenizer.json says: of byte-level BPE, and of the two forms below. Throws Error.
Vocabulary vocabulary_from_tokenizer(const nlohmann::json& json);

/// The tokenizer.json of a vocabulary: characters as a BPE without merges and without bytes, bytes
/// as a byte-level BPE without merges. transformers' AutoTokenizer reads it.
nlohmann::json tokenizer_json(const Vocabulary& vocabulary);

}  // namespace lamina::data
