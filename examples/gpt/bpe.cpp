// SPDX-License-Identifier: MIT
#include "examples/gpt/bpe.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/gpt2_split.h"

#include <algorithm>
#include <functional>
#include <iomanip>
#include <queue>
#include <set>
#include <sstream>

namespace lamina::data {

namespace {

std::string hex_text(unsigned char byte) {
  std::ostringstream text;
  text << "0x" << std::hex << std::setfill('0') << std::setw(2) << static_cast<int>(byte);
  return text.str();
}

/// A special token and where it comes next.
struct Occurrence {
  std::int32_t id;
  std::size_t at;
};

}  // namespace

Bpe::Bpe(BpeParts parts) : parts_(std::move(parts)) {
  const std::vector<std::string>& all = parts_.tokens;
  std::unordered_map<std::string_view, std::int32_t> ids;
  bytes_.fill(-1);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    if (all[i].empty()) throw Error(cat("bpe: token ", i, " is empty, expected at least one byte"));
    if (!ids.emplace(all[i], id).second) {
      throw Error(cat("bpe: tokens ", ids.at(all[i]), " and ", i, " have the same bytes, expected ",
                      "others for each"));
    }
    if (all[i].size() == 1) bytes_[static_cast<unsigned char>(all[i].front())] = id;
  }
  const auto exists = [&](std::int32_t id) { return id >= 0 && id < size(); };
  const std::set<std::int32_t> special(parts_.special.begin(), parts_.special.end());
  for (const std::int32_t id : special) {
    if (!exists(id))
      throw Error(cat("bpe: special token ", id, " does not exist, expected 0 to ", size() - 1));
    if (all[static_cast<std::size_t>(id)].size() == 1) {
      throw Error(cat("bpe: special token ", id, " is a single byte, expected a longer one"));
    }
  }
  for (std::size_t rank = 0; rank < parts_.merges.size(); ++rank) {
    const auto [left, right] = parts_.merges[rank];
    if (!exists(left) || !exists(right) || special.contains(left) || special.contains(right)) {
      throw Error(cat("bpe: merge ", rank, " is of tokens ", left, " and ", right,
                      ", expected two from 0 to ", size() - 1, " that are not special"));
    }
    const std::string bytes =
        all[static_cast<std::size_t>(left)] + all[static_cast<std::size_t>(right)];
    const auto result = ids.find(bytes);
    if (result == ids.end() || special.contains(result->second)) {
      throw Error(cat("bpe: merge ", rank, " of tokens ", left, " and ", right,
                      " has no token for its result, expected one"));
    }
    if (!merges_
             .emplace(pair_key(left, right), Merge{static_cast<std::int32_t>(rank), result->second})
             .second) {
      throw Error(cat("bpe: merge ", rank, " of tokens ", left, " and ", right,
                      " comes twice, expected once"));
    }
  }
}

std::vector<std::int32_t> Bpe::encode(std::string_view text) const {
  const auto content = [&](std::int32_t id) -> const std::string& {
    return parts_.tokens[static_cast<std::size_t>(id)];
  };
  std::vector<Occurrence> next;
  for (const std::int32_t id : parts_.special)
    next.push_back({id, text.find(content(id))});
  std::vector<std::int32_t> tokens;
  for (std::size_t begin = 0; begin < text.size();) {
    const Occurrence* first = nullptr;  // the longest of those that come next
    for (Occurrence& one : next) {
      if (one.at != std::string_view::npos && one.at < begin)
        one.at = text.find(content(one.id), begin);
      if (one.at == std::string_view::npos) continue;
      if (first == nullptr || one.at < first->at ||
          (one.at == first->at && content(one.id).size() > content(first->id).size())) {
        first = &one;
      }
    }
    const std::size_t end = first == nullptr ? text.size() : first->at;
    encode_ordinary(text.substr(begin, end - begin), begin, tokens);
    begin = end;
    if (first != nullptr) {
      tokens.push_back(first->id);
      begin += content(first->id).size();
    }
  }
  return tokens;
}

void Bpe::encode_ordinary(std::string_view text, std::size_t offset,
                          std::vector<std::int32_t>& tokens) const {
  // Most words come again and again. Their tokens are in the result already.
  constexpr std::size_t kLongest = 32, kMostPieces = std::size_t{1} << 18U;  // bytes, entries
  std::unordered_map<std::string_view, std::pair<std::size_t, std::size_t>> known;
  while (!text.empty()) {
    const std::size_t bytes =
        parts_.split == PieceSplit::gpt2 ? first_gpt2_piece(text) : text.size();
    const std::string_view piece = text.substr(0, bytes);
    if (const auto found = known.find(piece); found != known.end()) {
      for (auto [at, end] = found->second; at < end; ++at)
        tokens.push_back(tokens[at]);
    } else {
      const std::size_t begin = tokens.size();
      merge_piece(piece, offset, tokens);
      if (bytes <= kLongest && known.size() < kMostPieces)
        known.emplace(piece, std::pair(begin, tokens.size()));
    }
    text.remove_prefix(bytes);
    offset += bytes;
  }
}

void Bpe::merge_piece(std::string_view piece, std::size_t offset,
                      std::vector<std::int32_t>& tokens) const {
  struct Symbol {
    std::int32_t id;  // -1: merged into the one before
    std::size_t previous, next;
  };

  using Candidate = std::pair<std::int32_t, std::size_t>;  // rank and place of the left one
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  for (std::size_t i = 0; i < piece.size(); ++i) {
    const auto byte = static_cast<unsigned char>(piece[i]);
    if (bytes_[byte] < 0) {
      throw Error(cat("encode: text has the byte ", hex_text(byte), " at offset ", offset + i,
                      ", expected one of those that the tokenizer has a token for"));
    }
    symbols.push_back({bytes_[byte], i - 1, i + 1});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto merge_at = [&](std::size_t left) -> const Merge* {
    if (symbols[left].id < 0 || symbols[left].next >= symbols.size()) return nullptr;
    const auto found = merges_.find(pair_key(symbols[left].id, symbols[symbols[left].next].id));
    return found == merges_.end() ? nullptr : &found->second;
  };
  const auto consider = [&](std::size_t left) {
    if (const Merge* const merge = merge_at(left)) candidates.emplace(merge->rank, left);
  };
  for (std::size_t i = 0; i < symbols.size(); ++i)
    consider(i);
  while (!candidates.empty()) {
    const auto [rank, left] = candidates.top();
    candidates.pop();
    const Merge* const merge = merge_at(left);
    if (merge == nullptr || merge->rank != rank) continue;  // one of the two has changed
    const std::size_t right = symbols[left].next, after = symbols[right].next;
    symbols[left].id = merge->result;
    symbols[left].next = after;
    symbols[right].id = -1;
    if (after < symbols.size()) symbols[after].previous = left;
    consider(left);
    if (left > 0) consider(symbols[left].previous);
  }
  for (std::size_t i = 0; i < symbols.size(); i = symbols[i].next)
    tokens.push_back(symbols[i].id);
}

std::string Bpe::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::int32_t token = tokens[i];
    if (token < 0 || token >= size()) {
      throw Error(cat("decode: token ", i, " is ", token, ", expected 0 to ", size() - 1,
                      " (the ids of the vocabulary)"));
    }
    text += parts_.tokens[static_cast<std::size_t>(token)];
  }
  return text;
}

}  // namespace lamina::data
