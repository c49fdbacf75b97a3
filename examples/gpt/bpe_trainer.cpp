// SPDX-License-Identifier: MIT
#include "examples/gpt/bpe_trainer.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/bpe_files.h"
#include "examples/gpt/gpt2_split.h"

#include <queue>
#include <set>

namespace lamina::data {

namespace {

struct Word {
  std::vector<std::int32_t> ids;
  std::int64_t count;  // in the text
};

/// Pairs by count, largest first, and by ids, lowest first.
struct Candidate {
  std::int64_t count;
  std::uint64_t pair;

  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Trainer {
 public:
  explicit Trainer(std::string_view text) {
    std::array<std::int32_t, 256> ids{};
    for (const unsigned char byte : gpt2_byte_order()) {
      ids[byte] = static_cast<std::int32_t>(parts_.tokens.size());
      add_token(std::string(1, static_cast<char>(byte)));
    }
    std::unordered_map<std::string_view, std::size_t> places;
    while (!text.empty()) {
      const std::string_view piece = text.substr(0, first_gpt2_piece(text));
      const auto [place, is_new] = places.emplace(piece, words_.size());
      if (is_new) {
        Word& word = words_.emplace_back(Word{{}, 0});
        for (const char byte : piece)
          word.ids.push_back(ids[static_cast<unsigned char>(byte)]);
      }
      ++words_[place->second].count;
      text.remove_prefix(piece.size());
    }
    for (std::size_t word = 0; word < words_.size(); ++word) {
      count(word, 1);
      const std::vector<std::int32_t>& symbols = words_[word].ids;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
        note(pair_key(symbols[i], symbols[i + 1]), word);
    }
    for (const auto& [pair, count] : counts_)
      candidates_.push({count, pair});
  }

  Bpe run(std::int64_t size) {
    const auto tokens = static_cast<std::size_t>(size) - 1;  // without the special one
    while (parts_.tokens.size() < tokens && !candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      const std::int64_t count = counts_[best.pair];
      if (count == best.count) {
        if (count > 0) merge(best.pair);
      } else if (count > 0 && count < best.count) {
        candidates_.push({count, best.pair});
      }
    }
    parts_.special = {static_cast<std::int32_t>(parts_.tokens.size())};
    parts_.tokens.emplace_back("<|endoftext|>");
    return Bpe(std::move(parts_));
  }

 private:
  std::int32_t add_token(std::string bytes) {
    const auto next = static_cast<std::int32_t>(parts_.tokens.size());
    const auto [place, is_new] = ids_.emplace(bytes, next);
    if (is_new) parts_.tokens.push_back(std::move(bytes));
    return place->second;
  }

  /// Adds (sign 1) or takes away (sign -1) the pairs of a word.
  void count(std::size_t word, std::int64_t sign) {
    const auto& [ids, times] = words_[word];
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const std::uint64_t pair = pair_key(ids[i], ids[i + 1]);
      counts_[pair] += sign * times;
    }
  }

  /// Notes that a word has a pair.
  void note(std::uint64_t pair, std::size_t word) {
    std::vector<std::size_t>& places = words_with_[pair];
    if (places.empty() || places.back() != word) places.push_back(word);
  }

  void merge(std::uint64_t pair) {
    const auto left = static_cast<std::int32_t>(pair >> 32U);
    const auto right = static_cast<std::int32_t>(pair & 0xFFFFFFFFU);
    const auto bytes = [&](std::int32_t id) { return parts_.tokens[static_cast<std::size_t>(id)]; };
    const std::int32_t result = add_token(bytes(left) + bytes(right));
    parts_.merges.emplace_back(left, right);
    const std::vector<std::size_t> places = std::move(words_with_[pair]);
    words_with_.erase(pair);
    std::set<std::uint64_t> changed;
    for (const std::size_t word : places) {
      count(word, -1);
      std::vector<std::int32_t>& ids = words_[word].ids;
      std::size_t end = 0;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const bool is_pair = i + 1 < ids.size() && ids[i] == left && ids[i + 1] == right;
        ids[end++] = is_pair ? result : ids[i];
        if (is_pair) ++i;
      }
      ids.resize(end);
      count(word, 1);
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        if (ids[i] == result || ids[i + 1] == result) {
          const std::uint64_t neighbours = pair_key(ids[i], ids[i + 1]);
          note(neighbours, word);
          changed.insert(neighbours);
        }
      }
    }
    for (const std::uint64_t neighbours : changed)
      candidates_.push({counts_[neighbours], neighbours});
  }

  BpeParts parts_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, std::int64_t> counts_;
  std::unordered_map<std::uint64_t, std::vector<std::size_t>> words_with_;
  std::priority_queue<Candidate> candidates_;
};

}  // namespace

Bpe train_bpe(std::string_view text, std::int64_t size) {
  constexpr std::int64_t kLeast = 257;
  if (size < kLeast) {
    throw Error(cat("bpe: the vocabulary is to have ", size, " tokens, expected at least ", kLeast,
                    " (the bytes and <|endoftext|>)"));
  }
  return Trainer(text).run(size);
}

}  // namespace lamina::data
