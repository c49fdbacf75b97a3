// SPDX-License-Identifier: MIT
#include "examples/gpt/token_directory.h"

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "examples/gpt/crc32c.h"
#include "examples/gpt/meta_pickle.h"
#include "examples/gpt/tokenizer_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

namespace lamina::data {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::int64_t kGpt2Vocabulary = 50257;
constexpr std::string_view kManifest = "manifest.json";

Json records_json(const std::vector<ShardRecord>& records) {
  Json json = Json::array();
  for (const ShardRecord& record : records) {
    json.push_back({{"file", record.file},
                    {"tokens", record.tokens},
                    {"bytes", record.bytes},
                    {"crc32c", record.crc32c}});
  }
  return json;
}

const Json& field(const Json& object, const char* name, Json::value_t type) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  if (found == object.end() || found->type() != type) {
    throw Error(cat(kManifest, ": \"", name, "\" is missing or is something else, expected what ",
                    "lamina-gpt prepare writes"));
  }
  return *found;
}

std::uint64_t number(const Json& object, const char* name, std::uint64_t most) {
  const auto value = field(object, name, Json::value_t::number_unsigned).get<std::uint64_t>();
  if (value <= most) return value;
  throw Error(cat(kManifest, ": \"", name, "\" is ", value, ", expected at most ", most));
}

std::vector<ShardRecord> records_from(const Json& json, const char* name) {
  std::vector<ShardRecord> records;
  for (const Json& one : field(json, name, Json::value_t::array)) {
    ShardRecord record{.file = field(one, "file", Json::value_t::string).get<std::string>(),
                       .tokens = number(one, "tokens", INT64_MAX),
                       .bytes = number(one, "bytes", INT64_MAX),
                       .crc32c = static_cast<std::uint32_t>(number(one, "crc32c", UINT32_MAX))};
    if (!record.file.ends_with(".bin") ||
        record.file.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      throw Error(cat(kManifest, ": \"file\" is \"", record.file,
                      "\", expected the name of a .bin file without a folder"));
    }
    records.push_back(std::move(record));
  }
  return records;
}

/// part: "train" or "val", which counts in names that have no "train".
std::vector<TokenShard> shards_with(const fs::path& directory, std::string_view part) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    const bool is_train = name.find("train") != std::string::npos;
    const bool is_part =
        part == "train" ? is_train : !is_train && name.find(part) != std::string::npos;
    if (name.ends_with(".bin") && is_part) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  std::vector<TokenShard> shards;
  for (const std::string& name : names)
    shards.emplace_back(directory / name);
  if (shards.empty()) {
    throw Error(cat("data: ", directory.string(), " has no .bin file with \"", part,
                    "\" in its name, expected one (",
                    part == "train" ? "to train on" : "to validate",
                    "); lamina-gpt prepare writes such directories"));
  }
  return shards;
}

void expect_recorded(const std::vector<TokenShard>& shards, std::vector<ShardRecord> records,
                     const fs::path& directory) {
  const auto by_name = [](const ShardRecord& a, const ShardRecord& b) { return a.file < b.file; };
  std::sort(records.begin(), records.end(), by_name);
  for (std::size_t i = 0; i < std::max(shards.size(), records.size()); ++i) {
    const auto name_of = [&] { return fs::path(shards[i].path()).filename().string(); };
    if (i >= records.size() || (i < shards.size() && name_of() < records[i].file)) {
      throw Error(cat("data: ", shards[i].path(), " is not in ", kManifest, ", expected that"));
    }
    if (i >= shards.size() || name_of() != records[i].file) {
      throw Error(cat("data: ", (directory / records[i].file).string(),
                      " is missing, expected it (says ", kManifest, ")"));
    }
    if (shards[i].bytes().size() != records[i].bytes || shards[i].size() != records[i].tokens) {
      throw Error(cat("data: ", shards[i].path(), " has ", shards[i].size(), " tokens in ",
                      shards[i].bytes().size(), " bytes, expected ", records[i].tokens, " in ",
                      records[i].bytes, " (says ", kManifest, ")"));
    }
  }
}

std::uint32_t checksum_of(const TokenDirectory& directory) {
  constexpr std::size_t kEnds = 4096;
  gpt::Crc32c crc;
  for (const auto* const shards : {&directory.train, &directory.validation}) {
    for (const TokenShard& shard : *shards) {
      const std::string_view bytes = shard.bytes();
      crc.add(cat(fs::path(shard.path()).filename().string(), " ", bytes.size(), "\n"));
      crc.add(bytes.substr(0, kEnds));
      crc.add(bytes.substr(bytes.size() - std::min(bytes.size(), kEnds)));
    }
  }
  return crc.value();
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  const Json json = {{"format", manifest.format == ShardFormat::llmc ? "llm.c" : "nanogpt"},
                     {"vocabulary_size", static_cast<std::uint64_t>(manifest.vocabulary_size)},
                     {"train", records_json(manifest.train)},
                     {"validation", records_json(manifest.validation)}};
  return json.dump(2) + "\n";
}

Manifest parse_manifest(std::string_view text) {
  const Json json = parse_json(text, kManifest);
  const auto format = field(json, "format", Json::value_t::string).get<std::string>();
  if (format != "llm.c" && format != "nanogpt") {
    throw Error(
        cat(kManifest, ": \"format\" is \"", format, "\", expected \"llm.c\" or \"nanogpt\""));
  }
  return {.format = format == "llm.c" ? ShardFormat::llmc : ShardFormat::nanogpt,
          .vocabulary_size = static_cast<std::int64_t>(number(json, "vocabulary_size", INT32_MAX)),
          .train = records_from(json, "train"),
          .validation = records_from(json, "validation")};
}

TokenDirectory open_token_directory(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    throw Error(cat("data: ", path.string(), " is no directory, expected one with .bin files of ",
                    "tokens (lamina-gpt prepare writes it)"));
  }
  TokenDirectory directory{.path = path,
                           .train = shards_with(path, "train"),
                           .validation = shards_with(path, "val"),
                           .vocabulary = std::nullopt};
  directory.vocabulary_size = kGpt2Vocabulary;
  if (fs::exists(path / "tokenizer.json", ignored)) {
    directory.vocabulary = read_tokenizer(path / "tokenizer.json");
  } else if (fs::exists(path / "meta.pkl", ignored)) {
    directory.vocabulary =
        vocabulary_from_meta(MappedFile((path / "meta.pkl").string(), "data").bytes());
  }
  if (directory.vocabulary) directory.vocabulary_size = directory.vocabulary->size();
  if (fs::exists(path / kManifest, ignored)) {
    const Manifest manifest =
        parse_manifest(MappedFile((path / kManifest).string(), "data").bytes());
    expect_recorded(directory.train, manifest.train, path);
    expect_recorded(directory.validation, manifest.validation, path);
    if (manifest.vocabulary_size != directory.vocabulary_size) {
      throw Error(cat("data: ", path.string(), " has a vocabulary of ", directory.vocabulary_size,
                      ", expected ", manifest.vocabulary_size, " (says ", kManifest, ")"));
    }
  }
  directory.checksum = checksum_of(directory);
  return directory;
}

}  // namespace lamina::data
