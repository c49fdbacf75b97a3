// SPDX-License-Identifier: MIT
#include "examples/gpt/shard.h"

#include "core/error.h"
#include "core/text.h"

#include <array>
#include <bit>
#include <cstring>

namespace lamina::data {

namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

constexpr std::int32_t kMagic16 = 20240520, kVersion16 = 1;  // llm.c, GPT-2
constexpr std::int32_t kMagic32 = 20240801, kVersion32 = 7;  // llm.c, llama 3

using Header = std::array<std::int32_t, kShardHeaderBytes / sizeof(std::int32_t)>;
using HeaderBegin = std::array<std::int32_t, 3>;  // magic, version, tokens

/// Zeros of a file that is shorter.
HeaderBegin header_begin(std::string_view bytes) {
  HeaderBegin begin{};
  if (bytes.size() >= sizeof begin) std::memcpy(begin.data(), bytes.data(), sizeof begin);
  return begin;
}

}  // namespace

std::size_t id_bytes(std::int64_t vocabulary_size) {
  return vocabulary_size <= 65536 ? 2 : 4;
}

std::string shard_header(std::uint64_t tokens, std::size_t id_bytes) {
  const bool is_short = id_bytes == 2;
  const Header header = {is_short ? kMagic16 : kMagic32, is_short ? kVersion16 : kVersion32,
                         static_cast<std::int32_t>(tokens)};
  return {reinterpret_cast<const char*>(header.data()), sizeof header};
}

bool has_shard_header(std::string_view bytes) {
  const std::int32_t magic = header_begin(bytes)[0];
  return magic == kMagic16 || magic == kMagic32;
}

ShardLayout shard_layout(std::string_view bytes, const std::string& path) {
  const auto fail = [&](const std::string& what) { throw Error(cat("data: ", path, ": ", what)); };
  if (!has_shard_header(bytes)) {
    if (bytes.empty() || bytes.size() % 2 != 0) {
      fail(cat(bytes.size(), " bytes, expected uint16 ids (nanoGPT) or a header of llm.c"));
    }
    return {.start = 0, .id_bytes = 2, .tokens = bytes.size() / 2};
  }
  const auto [magic, version, tokens] = header_begin(bytes);
  const std::int32_t expected = magic == kMagic16 ? kVersion16 : kVersion32;
  if (version != expected) {
    fail(cat("version ", version, " of llm.c's format, expected ", expected));
  }
  if (tokens <= 0) fail(cat("the header says ", tokens, " tokens, expected at least 1"));
  const std::size_t size = magic == kMagic16 ? 2 : 4;
  const std::size_t wanted = kShardHeaderBytes + size * static_cast<std::size_t>(tokens);
  if (bytes.size() != wanted) {
    fail(cat(bytes.size(), " bytes, expected ", wanted, " (", tokens, " tokens, says the header)"));
  }
  return {
      .start = kShardHeaderBytes, .id_bytes = size, .tokens = static_cast<std::uint64_t>(tokens)};
}

TokenShard::TokenShard(const std::filesystem::path& path)
    : file_(path.string(), "data"), layout_(shard_layout(file_.bytes(), file_.path())) {}

void TokenShard::read(std::uint64_t first, std::int64_t vocabulary_size,
                      std::span<std::int32_t> to) const {
  const char* const from = file_.bytes().data() + layout_.start + first * layout_.id_bytes;
  for (std::size_t i = 0; i < to.size(); ++i) {
    std::uint32_t id = 0;
    std::memcpy(&id, from + i * layout_.id_bytes, layout_.id_bytes);
    if (id >= static_cast<std::uint64_t>(vocabulary_size)) {
      throw Error(cat("data: ", path(), ": token ", first + i, " (byte ",
                      layout_.start + (first + i) * layout_.id_bytes, ") is ", id,
                      ", expected less than ", vocabulary_size, " (the size of the vocabulary)"));
    }
    to[i] = static_cast<std::int32_t>(id);
  }
}

}  // namespace lamina::data
