// SPDX-License-Identifier: MIT
#include "examples/gpt/tokenizer_file.h"

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "examples/gpt/bpe_files.h"
#include "examples/gpt/utf8.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace lamina::data {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string read_file(const fs::path& path) {
  return read_text_files(std::vector{path});
}

/// Whether each byte is the token with its number: Level::byte.
bool is_bytes(const Bpe& bpe) {
  const BpeParts& parts = bpe.parts();
  if (parts.split != PieceSplit::none || !parts.merges.empty() || !parts.special.empty() ||
      bpe.size() != 256) {
    return false;
  }
  for (std::size_t i = 0; i < 256; ++i) {
    if (parts.tokens[i] != std::string(1, static_cast<char>(i))) return false;
  }
  return true;
}

/// The code points of a model without merges that looks up characters, by id.
Vocabulary characters_from(const Json& json) {
  std::vector<std::uint32_t> symbols;
  const Json& vocab = json["model"]["vocab"];
  symbols.resize(vocab.size());
  for (const auto& [text, id] : vocab.items()) {
    const Utf8Character first = text.empty() ? Utf8Character{} : first_character(text);
    const bool is_id = id.is_number_integer() && id >= 0 && id < vocab.size();
    if (first.bytes == 0 || first.bytes != text.size() || !is_id) {
      throw Error(cat("tokenizer: token \"", text, "\" has the id ", id.dump(),
                      ", expected one character with an id from 0 to ", vocab.size() - 1,
                      " (there is no pre_tokenizer)"));
    }
    symbols[id.get<std::size_t>()] = first.symbol;
  }
  return Vocabulary::from_json({{"level", "character"}, {"symbols", symbols}});
}

bool has_characters(const Json& json) {
  const Json model = json.is_object() ? json.value("model", Json()) : Json();
  return model.is_object() && model.value("vocab", Json()).is_object() &&
         model.value("type", Json()) == "BPE" && model.value("merges", Json()) == Json::array() &&
         json.value("pre_tokenizer", Json()).is_null() &&
         json.value("normalizer", Json()).is_null() &&
         json.value("added_tokens", Json::array()).empty() &&
         json.value("decoder", Json()) == Json({{"type", "Fuse"}});
}

}  // namespace

Vocabulary vocabulary_from_tokenizer(const Json& json) {
  if (has_characters(json)) return characters_from(json);
  Bpe bpe = bpe_from_json(json);
  if (is_bytes(bpe)) return Vocabulary::of_bytes();
  return Vocabulary::from_bpe(std::move(bpe));
}

Json tokenizer_json(const Vocabulary& vocabulary) {
  switch (vocabulary.level()) {
    case Level::bpe:
      return bpe_json(*vocabulary.bpe());
    case Level::byte: {
      BpeParts parts{.tokens = {}, .merges = {}, .special = {}, .split = PieceSplit::none};
      for (int byte = 0; byte < 256; ++byte)
        parts.tokens.emplace_back(1, static_cast<char>(byte));
      return bpe_json(Bpe(std::move(parts)));
    }
    case Level::character:
      break;
  }
  Json json = bpe_json(Bpe({}));
  for (std::int32_t id = 0; id < vocabulary.size(); ++id)
    json["model"]["vocab"][vocabulary.decode(std::vector{id})] = id;
  json["pre_tokenizer"] = nullptr;
  json["decoder"] = {{"type", "Fuse"}};
  return json;
}

Vocabulary read_tokenizer(const fs::path& path) {
  std::error_code ignored;
  fs::path file = path;
  if (fs::is_directory(path, ignored)) {
    file = path / "tokenizer.json";
    if (!fs::exists(file, ignored)) file = path / "merges.txt";
    if (!fs::exists(file, ignored)) {
      throw Error(cat("tokenizer: ", path.string(),
                      " has neither tokenizer.json nor merges.txt, expected one of them"));
    }
  }
  const std::string text = read_file(file);
  try {
    if (file.extension() == ".json")
      return vocabulary_from_tokenizer(parse_json(text, "tokenizer"));
    const fs::path vocab = file.parent_path() / "vocab.json";
    std::optional<std::string> ids;
    if (fs::exists(vocab, ignored)) ids = read_file(vocab);
    return Vocabulary::from_bpe(bpe_from_merges(text, ids));
  } catch (const Error& error) {
    throw Error(cat(file.string(), ": ", error.what()));
  }
}

}  // namespace lamina::data
