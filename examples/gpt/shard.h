// SPDX-License-Identifier: MIT
// Files of token ids: llm.c's (a header of 256 little-endian int32, then uint16, or uint32 in its
// llama-3 form) and nanoGPT's (uint16, no header). They are mapped, so that only what is used is
// read, and may be larger than memory. Formats: https://github.com/karpathy/llm.c (dataloader.h),
// https://github.com/karpathy/nanoGPT (train.py).
#pragma once

#include "core/mapped_file.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace lamina::data {

enum class ShardFormat { llmc, nanogpt };

inline constexpr std::size_t kShardHeaderBytes = 1024;  // of llm.c

/// How ids lie in a file.
struct ShardLayout {
  std::size_t start = 0;     // bytes before the first id
  std::size_t id_bytes = 2;  // 2 or 4
  std::uint64_t tokens = 0;
};

/// Bytes of an id that is less than `vocabulary_size`.
std::size_t id_bytes(std::int64_t vocabulary_size);

/// llm.c's header of so many tokens.
std::string shard_header(std::uint64_t tokens, std::size_t id_bytes);

/// Whether the file begins as llm.c's do, whatever follows.
bool has_shard_header(std::string_view bytes);

/// Reads the header, if there is one. Throws Error that begins with `path` when the size of the
/// file is not what it should be.
ShardLayout shard_layout(std::string_view bytes, const std::string& path);

class TokenShard {
 public:
  /// Throws Error.
  explicit TokenShard(const std::filesystem::path& path);

  /// Number of tokens.
  std::uint64_t size() const { return layout_.tokens; }

  const std::string& path() const { return file_.path(); }

  std::string_view bytes() const { return file_.bytes(); }

  /// Copies the ids from number `first` on. Throws Error with the file and the offset of one that
  /// is not less than `vocabulary_size`.
  void read(std::uint64_t first, std::int64_t vocabulary_size, std::span<std::int32_t> to) const;

 private:
  MappedFile file_;
  ShardLayout layout_;
};

}  // namespace lamina::data
