// SPDX-License-Identifier: MIT
// Byte-level byte-pair encoding as in GPT-2: text is cut into pieces, the bytes of a piece are
// tokens, and of neighbours that may be merged those with the lowest rank are, until none may.
// Every text has tokens, and they give its bytes back. Sennrich et al. 2016,
// https://arxiv.org/abs/1508.07909; Radford et al. 2019, section 2.2. bpe_files.h reads and writes
// the usual files, bpe_trainer.h makes one from a text.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lamina::data {

/// How text is cut before bytes are merged; gpt2: first_gpt2_piece().
enum class PieceSplit { gpt2, none };

struct BpeParts {
  std::vector<std::string> tokens;                            // their bytes, by id
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;  // of neighbours, lowest rank first
  std::vector<std::int32_t> special;  // taken from a text as a whole, before anything else
  PieceSplit split = PieceSplit::gpt2;

  bool operator==(const BpeParts&) const = default;
};

class Bpe {
 public:
  /// Throws Error for an empty token or one that comes twice, for ids that do not exist, for a
  /// merge that comes twice or whose result is no token, and for a special token that is a byte or
  /// takes part in a merge.
  explicit Bpe(BpeParts parts);

  /// Time n log n in the bytes of the longest piece, linear in the number of pieces. Throws Error
  /// that names the byte when one has no token.
  std::vector<std::int32_t> encode(std::string_view text) const;

  /// The bytes of the tokens one after the other, which need not be UTF-8. Throws Error for an id
  /// outside [0, size()).
  std::string decode(std::span<const std::int32_t> tokens) const;

  std::int64_t size() const { return static_cast<std::int64_t>(parts_.tokens.size()); }

  const BpeParts& parts() const { return parts_; }

 private:
  struct Merge {
    std::int32_t rank, result;
  };

  void encode_ordinary(std::string_view text, std::size_t offset,
                       std::vector<std::int32_t>& tokens) const;
  void merge_piece(std::string_view piece, std::size_t offset,
                   std::vector<std::int32_t>& tokens) const;

  BpeParts parts_;
  std::array<std::int32_t, 256> bytes_{};            // ids; -1: none
  std::unordered_map<std::uint64_t, Merge> merges_;  // by pair_key()
};

/// Two ids as one number.
inline std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32U | static_cast<std::uint32_t>(right);
}

}  // namespace lamina::data
