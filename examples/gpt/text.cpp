// SPDX-License-Identifier: MIT
#include "examples/gpt/text.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/bpe.h"
#include "examples/gpt/bpe_files.h"
#include "examples/gpt/utf8.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iomanip>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <utility>

namespace lamina::data {

namespace {

constexpr std::int64_t kBytes = 256;

/// Calls visit(symbol, byte offset) for each character. Throws Error at the first that is not
/// UTF-8.
template <class Visit>
void for_each_character(std::string_view what, std::string_view text, Visit visit) {
  for (std::size_t offset = 0; offset < text.size();) {
    const Utf8Character decoded = first_character(text.substr(offset));
    if (decoded.bytes == 0) {
      std::ostringstream byte;
      byte << "0x" << std::hex << std::setfill('0') << std::setw(2)
           << static_cast<int>(static_cast<unsigned char>(text[offset]));
      throw Error(cat(what, ": text has the byte ", byte.str(), " at offset ", offset,
                      ", expected UTF-8 (the level is character); use the byte level for other "
                      "encodings"));
    }
    visit(decoded.symbol, offset);
    offset += decoded.bytes;
  }
}

}  // namespace

Vocabulary::Vocabulary(Level level, std::vector<char32_t> symbols)
    : level_(level), symbols_(std::move(symbols)) {
  for (std::size_t i = 0; i < symbols_.size(); ++i) {
    ids_.emplace(symbols_[i], static_cast<std::int32_t>(i));
  }
}

Vocabulary Vocabulary::builtin() {
  std::vector<char32_t> symbols = {U'\n'};
  for (char32_t c = U' '; c <= U'~'; ++c)
    symbols.push_back(c);
  return {Level::character, std::move(symbols)};
}

Vocabulary Vocabulary::from_text(std::string_view text, Level level) {
  if (text.empty()) throw Error("vocabulary: text has 0 bytes, expected at least 1");
  if (level == Level::byte) return of_bytes();
  std::set<char32_t> distinct;
  for_each_character("vocabulary", text,
                     [&](char32_t symbol, std::size_t) { distinct.insert(symbol); });
  return {level, std::vector<char32_t>(distinct.begin(), distinct.end())};
}

Vocabulary Vocabulary::of_bytes() {
  return {Level::byte, {}};
}

Vocabulary Vocabulary::from_bpe(Bpe bpe) {
  Vocabulary vocabulary(Level::bpe, {});
  vocabulary.bpe_ = std::make_shared<const Bpe>(std::move(bpe));
  return vocabulary;
}

bool Vocabulary::operator==(const Vocabulary& other) const {
  if (level_ != other.level_ || symbols_ != other.symbols_) return false;
  return !bpe_ || bpe_->parts() == other.bpe_->parts();
}

std::int64_t Vocabulary::size() const {
  if (bpe_) return bpe_->size();
  return level_ == Level::byte ? kBytes : static_cast<std::int64_t>(symbols_.size());
}

std::vector<std::int32_t> Vocabulary::encode(std::string_view text) const {
  if (bpe_) return bpe_->encode(text);
  std::vector<std::int32_t> tokens;
  tokens.reserve(text.size());
  if (level_ == Level::byte) {
    for (const char c : text)
      tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  for_each_character("encode", text, [&](char32_t symbol, std::size_t offset) {
    const auto found = ids_.find(symbol);
    if (found == ids_.end()) {
      throw Error(cat("encode: text has ", name_of_symbol(symbol), " at byte ", offset,
                      ", expected one of the ", size(),
                      " characters of the vocabulary (those of its training text)"));
    }
    tokens.push_back(found->second);
  });
  return tokens;
}

std::string Vocabulary::decode(std::span<const std::int32_t> tokens) const {
  if (bpe_) return bpe_->decode(tokens);
  std::string text;
  text.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::int32_t token = tokens[i];
    if (token < 0 || token >= size()) {
      throw Error(cat("decode: token ", i, " is ", token, ", expected 0 to ", size() - 1,
                      " (the ids of the vocabulary)"));
    }
    if (level_ == Level::byte) {
      text.push_back(static_cast<char>(token));
    } else {
      append_utf8(symbols_[static_cast<std::size_t>(token)], text);
    }
  }
  return text;
}

nlohmann::json Vocabulary::to_json() const {
  if (level_ == Level::byte) return {{"level", "byte"}};
  if (bpe_) return {{"level", "bpe"}, {"tokenizer", bpe_json(*bpe_)}};
  std::vector<std::uint32_t> symbols(symbols_.begin(), symbols_.end());
  return {{"level", "character"}, {"symbols", symbols}};
}

Vocabulary Vocabulary::from_json(const nlohmann::json& json) {
  try {
    const auto level = json.at("level").get<std::string>();
    if (level == "byte") return of_bytes();
    if (level == "bpe") return from_bpe(bpe_from_json(json.at("tokenizer")));
    if (level != "character") {
      throw Error(
          cat("vocabulary: level is \"", level, "\", expected \"character\", \"byte\" or \"bpe\""));
    }
    const auto symbols = json.at("symbols").get<std::vector<std::uint32_t>>();
    if (symbols.empty()) throw Error("vocabulary: symbols is empty, expected at least one");
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const bool is_ascending = i == 0 || symbols[i] > symbols[i - 1];
      if (!is_ascending || symbols[i] > kLastCodePoint || is_surrogate(symbols[i])) {
        throw Error(cat("vocabulary: symbol ", i, " is ", symbols[i],
                        ", expected Unicode code points in ascending order"));
      }
    }
    return {Level::character, std::vector<char32_t>(symbols.begin(), symbols.end())};
  } catch (const nlohmann::json::exception& error) {
    throw Error(cat("vocabulary: json does not hold one (", error.what(),
                    "), expected {\"level\": ..., \"symbols\": [...]}"));
  }
}

std::string read_text_files(std::span<const std::filesystem::path> paths) {
  std::string text;
  for (const std::filesystem::path& path : paths) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) {
      throw Error(cat("text: ", path.string(), " does not exist, expected a text file"));
    }
    if (std::filesystem::is_directory(path, ignored)) {
      throw Error(
          cat("text: ", path.string(), " is a directory, expected a text file; name its files"));
    }
    std::ifstream file(path, std::ios::binary);
    const std::size_t before = text.size();
    try {
      if (file) text.append(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    } catch (const std::ios_base::failure&) {  // libstdc++ throws what read() refuses
      file.setstate(std::ios::badbit);
    }
    if (!file || file.bad()) {
      throw Error(cat("text: ", path.string(), " cannot be read, expected a readable text file"));
    }
    if (text.size() == before) {
      throw Error(cat("text: ", path.string(), " has 0 bytes, expected some text"));
    }
  }
  return text;
}

TokenSplit split_tokens(std::span<const std::int32_t> tokens, std::int64_t context) {
  const std::size_t train = tokens.size() / 10 * 9 + tokens.size() % 10 * 9 / 10;
  const std::size_t smaller = std::min(train, tokens.size() - train);
  if (static_cast<std::int64_t>(smaller) < context + 1) {
    throw Error(cat("text: ", tokens.size(), " tokens leave ", smaller,
                    " for the smaller split, expected at least ", context + 1, " (context ",
                    context, " and a target); use more text or a shorter context"));
  }
  const auto parts = std::pair(tokens.first(train), tokens.subspan(train));
  return {{parts.first.begin(), parts.first.end()}, {parts.second.begin(), parts.second.end()}};
}

}  // namespace lamina::data
