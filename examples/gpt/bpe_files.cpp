// SPDX-License-Identifier: MIT
#include "examples/gpt/bpe_files.h"

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "examples/gpt/utf8.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

namespace lamina::data {

namespace {

using Json = nlohmann::json;

constexpr std::string_view kEndOfText = "<|endoftext|>";

/// Bytes that stand for themselves, as Latin-1; the others get the characters from U+0100.
bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

const std::array<char32_t, 256>& symbols_by_byte() {
  static const auto kSymbols = [] {
    std::array<char32_t, 256> symbols{};
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte)
      symbols[static_cast<std::size_t>(byte)] =
          is_printable(byte) ? static_cast<char32_t>(byte) : next++;
    return symbols;
  }();
  return kSymbols;
}

const std::unordered_map<char32_t, char>& bytes_by_symbol() {
  static const auto kBytes = [] {
    std::unordered_map<char32_t, char> bytes;
    for (std::size_t byte = 0; byte < 256; ++byte)
      bytes.emplace(symbols_by_byte()[byte], static_cast<char>(byte));
    return bytes;
  }();
  return kBytes;
}

/// Texts are cut for messages: they may be a megabyte.
std::string quoted(std::string_view text) {
  constexpr std::size_t kMost = 60;
  return cat("\"", text.substr(0, kMost), text.size() > kMost ? "..." : "", "\"");
}

std::string quoted(const Json& value) {
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 60) + "..." : text;
}

/// Throws Error unless the field is one of `allowed`; one that is not there counts as null.
void expect_field(const Json& object, const char* name, std::initializer_list<Json> allowed,
                  std::string_view where) {
  const Json value = object.value(name, Json());
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
  std::string expected;
  for (const Json& one : allowed)
    expected += cat(expected.empty() ? "" : " or ", one.dump());
  throw Error(cat("tokenizer: ", where, name, " is ", quoted(value), ", expected ", expected,
                  " (no other is implemented)"));
}

/// {"type": "ByteLevel", ...} or null.
void expect_byte_level(const Json& json, const char* name) {
  const Json value = json.value(name, Json());
  if (value.is_null()) return;
  if (!value.is_object() || value.value("type", Json()) != "ByteLevel") {
    throw Error(cat("tokenizer: ", name, " is ", quoted(value),
                    ", expected ByteLevel (no other is implemented)"));
  }
}

/// What is put around a text: nothing, also where it is said with a template.
void expect_nothing_added(const Json& json) {
  const Json value = json.value("post_processor", Json());
  const Json single = value.is_object() ? value.value("single", Json()) : Json();
  if (single.is_array() && single.size() == 1 && single[0].is_object() &&
      single[0].contains("Sequence") && value.value("type", Json()) == "TemplateProcessing") {
    return;
  }
  expect_byte_level(json, "post_processor");
}

PieceSplit split_of(const Json& json) {
  const Json value = json.value("pre_tokenizer", Json());
  if (!value.is_object() || value.value("type", Json()) != "ByteLevel") {
    throw Error(cat("tokenizer: pre_tokenizer is ", quoted(value),
                    ", expected ByteLevel (no other is implemented)"));
  }
  expect_field(value, "add_prefix_space", {false}, "pre_tokenizer.");
  expect_field(value, "use_regex", {true, false, Json()}, "pre_tokenizer.");
  return value.value("use_regex", Json()) == false ? PieceSplit::none : PieceSplit::gpt2;
}

/// Tokens by id as the file writes them, while they come in any order.
class TokenList {
 public:
  /// Throws Error when the id is none or has another text already.
  void add(const Json& id, const std::string& text) {
    constexpr std::int64_t kMost = 0x110000;
    if (!id.is_number_integer() || id < 0 || id >= kMost) {
      throw Error(cat("tokenizer: the id of ", quoted(text), " is ", quoted(id),
                      ", expected an integer from 0 to ", kMost - 1));
    }
    const auto [it, is_new] = texts_.emplace(id.get<std::int32_t>(), text);
    if (!is_new && it->second != text) {
      throw Error(cat("tokenizer: ", quoted(it->second), " and ", quoted(text),
                      " have the same id ", it->first, ", expected one for each"));
    }
    const auto [named, is_new_text] = ids_.emplace(text, it->first);
    if (!is_new_text && named->second != it->first) {
      throw Error(cat("tokenizer: ", quoted(text), " has the ids ", named->second, " and ",
                      it->first, ", expected one"));
    }
  }

  /// nullptr for a text that is no token.
  const std::int32_t* find(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? nullptr : &found->second;
  }

  /// Bytes by id; of special tokens their text. Throws Error for a gap.
  std::vector<std::string> bytes(const std::set<std::int32_t>& special) const {
    std::vector<std::string> tokens;
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      const auto id = static_cast<std::int32_t>(i);
      const auto found = texts_.find(id);
      if (found == texts_.end()) {
        throw Error(cat("tokenizer: id ", i, " has no token, expected one for each id below ",
                        texts_.size(), " (the number of tokens)"));
      }
      const std::optional<std::string> bytes =
          special.contains(id) ? found->second : bytes_of_symbols(found->second);
      if (!bytes) {
        throw Error(cat("tokenizer: token ", quoted(found->second),
                        " has a character that stands for no byte, expected GPT-2's alphabet"));
      }
      tokens.push_back(*bytes);
    }
    return tokens;
  }

 private:
  std::unordered_map<std::int32_t, std::string> texts_;
  std::unordered_map<std::string, std::int32_t> ids_;
};

/// Throws Error when one of the two is no token.
std::pair<std::int32_t, std::int32_t> merge_of(const TokenList& tokens, const std::string& left,
                                               const std::string& right, std::size_t rank) {
  const std::int32_t* const ids[] = {tokens.find(left), tokens.find(right)};
  if (ids[0] == nullptr || ids[1] == nullptr) {
    throw Error(cat("tokenizer: merge ", rank, " is of ", quoted(left), " and ", quoted(right),
                    ", expected two tokens of the vocabulary"));
  }
  return {*ids[0], *ids[1]};
}

/// "a b" at the only blank. Throws Error for another form.
std::pair<std::string, std::string> parts_of_merge(std::string_view text, std::size_t rank) {
  const std::size_t blank = text.find(' ');
  if (blank == std::string_view::npos || blank == 0 || blank + 1 == text.size() ||
      text.find(' ', blank + 1) != std::string_view::npos) {
    throw Error(cat("tokenizer: merge ", rank, " is ", quoted(text),
                    ", expected two tokens with a blank between"));
  }
  return {std::string(text.substr(0, blank)), std::string(text.substr(blank + 1))};
}

std::set<std::int32_t> read_added_tokens(const Json& json, TokenList& tokens) {
  const Json added = json.value("added_tokens", Json::array());
  if (!added.is_array())
    throw Error(cat("tokenizer: added_tokens is ", quoted(added), ", expected a list"));
  std::set<std::int32_t> special;
  for (const Json& token : added) {
    if (!token.is_object() || !token.value("content", Json()).is_string()) {
      throw Error(cat("tokenizer: added_tokens has ", quoted(token),
                      ", expected an object with id and content"));
    }
    for (const char* flag : {"lstrip", "rstrip", "single_word"})
      expect_field(token, flag, {false, Json()}, "added_tokens: ");
    tokens.add(token.value("id", Json()), token["content"].get<std::string>());
    special.insert(token["id"].get<std::int32_t>());
  }
  return special;
}

}  // namespace

const std::array<unsigned char, 256>& gpt2_byte_order() {
  static const auto kOrder = [] {
    std::array<unsigned char, 256> order{};
    std::iota(order.begin(), order.end(), static_cast<unsigned char>(0));
    std::sort(order.begin(), order.end(), [](unsigned char a, unsigned char b) {
      return symbols_by_byte()[a] < symbols_by_byte()[b];
    });
    return order;
  }();
  return kOrder;
}

std::string symbols_of(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes)
    append_utf8(symbols_by_byte()[static_cast<unsigned char>(byte)], text);
  return text;
}

std::optional<std::string> bytes_of_symbols(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const Utf8Character next = first_character(text);
    const auto found = bytes_by_symbol().find(next.symbol);
    if (next.bytes == 0 || found == bytes_by_symbol().end()) return std::nullopt;
    bytes.push_back(found->second);
    text.remove_prefix(next.bytes);
  }
  return bytes;
}

Bpe bpe_from_json(const Json& json) {
  const Json model = json.is_object() ? json.value("model", Json()) : Json();
  if (!model.is_object() || !model.value("vocab", Json()).is_object() ||
      !model.value("merges", Json()).is_array()) {
    throw Error(
        "tokenizer: there is no model with vocab and merges, expected the tokenizer.json of a "
        "byte-level BPE");
  }
  expect_field(model, "type", {"BPE", Json()}, "model.");
  expect_field(model, "dropout", {Json(), 0.0}, "model.");
  expect_field(model, "continuing_subword_prefix", {"", Json()}, "model.");
  expect_field(model, "end_of_word_suffix", {"", Json()}, "model.");
  expect_field(model, "byte_fallback", {false, Json()}, "model.");
  expect_field(model, "ignore_merges", {false, Json()}, "model.");
  expect_field(json, "normalizer", {Json()}, "");
  expect_nothing_added(json);
  expect_byte_level(json, "decoder");

  TokenList tokens;
  for (const auto& [text, id] : model["vocab"].items())
    tokens.add(id, text);
  const std::set<std::int32_t> special = read_added_tokens(json, tokens);
  BpeParts parts{.tokens = tokens.bytes(special),
                 .merges = {},
                 .special = {special.begin(), special.end()},
                 .split = split_of(json)};
  for (const Json& merge : model["merges"]) {
    const std::size_t rank = parts.merges.size();
    const bool is_pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    if (!is_pair && !merge.is_string()) {
      throw Error(cat("tokenizer: merge ", rank, " is ", quoted(merge), ", expected two tokens"));
    }
    const auto [left, right] =
        is_pair ? std::pair(merge[0].get<std::string>(), merge[1].get<std::string>())
                : parts_of_merge(merge.get<std::string>(), rank);
    parts.merges.push_back(merge_of(tokens, left, right, rank));
  }
  return Bpe(std::move(parts));
}

Json bpe_json(const Bpe& bpe) {
  const BpeParts& parts = bpe.parts();
  const auto token = [&](std::int32_t id) -> const std::string& {
    return parts.tokens[static_cast<std::size_t>(id)];
  };
  Json added = Json::array(), vocab = Json::object(), merges = Json::array();
  for (const std::int32_t id : parts.special) {
    added.push_back({{"id", id},
                     {"content", token(id)},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  for (std::int32_t id = 0; id < bpe.size(); ++id) {
    const bool is_special =
        std::find(parts.special.begin(), parts.special.end(), id) != parts.special.end();
    vocab[is_special ? token(id) : symbols_of(token(id))] = id;
  }
  for (const auto& [left, right] : parts.merges)
    merges.push_back(symbols_of(token(left)) + " " + symbols_of(token(right)));
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", parts.split == PieceSplit::gpt2}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", merges}}}};
}

Bpe bpe_from_merges(std::string_view merges, std::optional<std::string_view> vocab) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (std::size_t line = 1; !merges.empty(); ++line) {
    const std::size_t end = std::min(merges.find('\n'), merges.size());
    const std::string_view text = merges.substr(0, end);
    merges.remove_prefix(std::min(end + 1, merges.size()));
    if (line == 1 && text.starts_with("#version")) continue;
    if (text.empty() && merges.empty()) break;
    pairs.push_back(parts_of_merge(text, pairs.size()));
  }
  TokenList tokens;
  std::set<std::string> ordinary;  // what bytes and merges make
  for (const unsigned char byte : gpt2_byte_order())
    ordinary.insert(symbols_of(std::string(1, static_cast<char>(byte))));
  for (const auto& [left, right] : pairs)
    ordinary.insert(left + right);
  std::set<std::int32_t> special;
  if (vocab) {
    const Json ids = parse_json(*vocab, "tokenizer: vocab.json");
    if (!ids.is_object())
      throw Error("tokenizer: vocab.json is no object, expected tokens with their ids");
    for (const auto& [text, id] : ids.items()) {
      tokens.add(id, text);
      if (!ordinary.contains(text)) special.insert(id.get<std::int32_t>());
    }
  } else {
    std::int32_t next = 0;
    for (const unsigned char byte : gpt2_byte_order())
      tokens.add(next++, symbols_of(std::string(1, static_cast<char>(byte))));
    for (const auto& [left, right] : pairs) {
      if (tokens.find(left + right) == nullptr) tokens.add(next++, left + right);
    }
    tokens.add(next, std::string(kEndOfText));
    special.insert(next);
  }
  BpeParts parts{.tokens = tokens.bytes(special),
                 .merges = {},
                 .special = {special.begin(), special.end()},
                 .split = PieceSplit::gpt2};
  for (const auto& [left, right] : pairs)
    parts.merges.push_back(merge_of(tokens, left, right, parts.merges.size()));
  return Bpe(std::move(parts));
}

}  // namespace lamina::data
