// SPDX-License-Identifier: MIT
// A directory of token shards: what `lamina-gpt prepare` writes and `--data` reads, and what the
// data scripts of nanoGPT and llm.c leave. Files are *.bin; those with "train" in their names are
// to train on, those with "val" to validate. The vocabulary is a tokenizer.json or nanoGPT's
// meta.pkl beside them, else the size of GPT-2's is taken. A manifest.json, which prepare writes
// last, says which files there are.
#pragma once

#include "examples/gpt/shard.h"
#include "examples/gpt/text.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::data {

/// What a manifest says of a shard.
struct ShardRecord {
  std::string file;  // its name
  std::uint64_t tokens = 0, bytes = 0;
  std::uint32_t crc32c = 0;

  bool operator==(const ShardRecord&) const = default;
};

struct Manifest {
  ShardFormat format = ShardFormat::llmc;
  std::int64_t vocabulary_size = 0;
  std::vector<ShardRecord> train, validation;

  bool operator==(const Manifest&) const = default;
};

std::string manifest_text(const Manifest& manifest);

/// The inverse. Throws Error that begins with "manifest.json" when a field is missing or is not
/// what it should be, or a name has a folder.
Manifest parse_manifest(std::string_view text);

struct TokenDirectory {
  std::filesystem::path path;
  std::vector<TokenShard> train, validation;  // by name
  std::optional<Vocabulary> vocabulary;
  std::int64_t vocabulary_size = 0;
  std::uint32_t checksum = 0;  // of names, sizes, and the first and last 4096 bytes of all shards
};

/// Throws Error when there is no shard for one of the two, when one is damaged, and when the
/// directory is not what its manifest says; ids are checked when they are read.
TokenDirectory open_token_directory(const std::filesystem::path& path);

}  // namespace lamina::data
