// SPDX-License-Identifier: MIT
// Vocabularies that turn text into token ids and back, and reading of a user's own text files.
// lamina-gpt uses Vocabulary::builtin() for the generated corpus and from_text() for --text; a
// vocabulary is stored with a checkpoint as JSON so that sampling spells the same way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lamina::data {

class Bpe;

/// What one token is: a Unicode character of UTF-8 text, a byte of anything, or several bytes, as a
/// tokenizer (bpe.h) says.
enum class Level { character, byte, bpe };

class Vocabulary {
 public:
  /// Newline and printable ASCII, 96 ids: newline is 0, any other character c is c - 31.
  static Vocabulary builtin();

  /// character: the distinct characters of `text` in the order of their code points. byte:
  /// of_bytes(). Throws Error that names the byte when text is not UTF-8 at character level, or is
  /// empty.
  static Vocabulary from_text(std::string_view text, Level level);

  /// 256 ids, whatever the text.
  static Vocabulary of_bytes();

  static Vocabulary from_bpe(Bpe bpe);

  /// Token ids of text. Throws Error that names the character and its byte when it has no id.
  std::vector<std::int32_t> encode(std::string_view text) const;

  /// The inverse of encode. Throws Error for an id outside [0, size()).
  std::string decode(std::span<const std::int32_t> tokens) const;

  /// Number of ids.
  std::int64_t size() const;

  Level level() const { return level_; }

  /// Of Level::bpe, else nullptr.
  const Bpe* bpe() const { return bpe_.get(); }

  /// {"level": "character", "symbols": [10, 32, ...]}, symbols as code points; none for bytes; for
  /// BPE "tokenizer" instead, as in a tokenizer.json.
  nlohmann::json to_json() const;

  /// The inverse of to_json. Throws Error when `json` is something else.
  static Vocabulary from_json(const nlohmann::json& json);

  bool operator==(const Vocabulary& other) const;

 private:
  Vocabulary(Level level, std::vector<char32_t> symbols);

  Level level_;
  std::vector<char32_t> symbols_;  // by id, ascending; of characters only
  std::unordered_map<char32_t, std::int32_t> ids_;
  std::shared_ptr<const Bpe> bpe_;
};

/// The contents of the files, one after the other. Throws Error that names the file when one is
/// missing, is not a regular file, cannot be read, or is empty.
std::string read_text_files(std::span<const std::filesystem::path> paths);

struct TokenSplit {
  std::vector<std::int32_t> train;
  std::vector<std::int32_t> validation;
};

/// The first 90% (rounded down) to train on, the rest to validate. Throws Error when either part is
/// shorter than one window of `context` inputs and their targets, context + 1 tokens.
TokenSplit split_tokens(std::span<const std::int32_t> tokens, std::int64_t context);

}  // namespace lamina::data
