// SPDX-License-Identifier: MIT
// The formats of directories.
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "examples/gpt/checkpoint_store.h"
#include "examples/gpt/crc32c.h"
#include "examples/gpt/inspect_formats.h"
#include "examples/gpt/report_run.h"
#include "examples/gpt/run_directory.h"
#include "examples/gpt/token_directory.h"
#include "examples/gpt/tokenizer_file.h"
#include "examples/gpt/training_state.h"

#include <algorithm>
#include <map>
#include <system_error>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;

bool has_file(const fs::path& directory, const std::string& name) {
  std::error_code ignored;
  return fs::is_regular_file(directory / name, ignored);
}

// ---- checkpoints and runs

/// What is wrong with a file of a checkpoint, or nothing: its checksum, or only its size.
std::string fault_of(const CheckpointStore& store, std::int64_t step, const FileRecord& record,
                     bool check) {
  if (check) {
    const std::string_view only[] = {record.name};
    return store.fault(step, only);
  }
  std::error_code error;
  const fs::path path = store.path_of(step) / record.name;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) return cat(path.string(), ": ", error.message());
  if (size == record.bytes) return "";
  return cat(path.string(), " has ", size, " bytes, expected ", record.bytes);
}

/// The files that the MANIFEST of a checkpoint names; what is wrong becomes faults of `subject`.
Document files_document(const Subject& subject, const CheckpointStore& store, std::int64_t step) {
  Document files = Document::array();
  const std::string_view no_file[] = {""};
  if (const std::string fault = store.fault(step, no_file); !fault.empty()) {
    subject.fault(fault);
    return files;
  }
  const auto records = store.files(step).value_or(std::vector<FileRecord>());
  for (const FileRecord& record : records) {
    const std::string fault = fault_of(store, step, record, subject.check());
    if (!fault.empty()) subject.fault(fault);
    const char* const unread = subject.check() ? "intact" : "of the right size";
    files.push_back({{"file", record.name},
                     {"bytes", record.bytes},
                     {"crc32c", record.checksum},
                     {"state", fault.empty() ? unread : "damaged"}});
  }
  return files;
}

Document checkpoints_document(const Subject& subject, const fs::path& directory) {
  SystemDisk disk;
  const CheckpointStore store(disk, directory);
  Document checkpoints = Document::array();
  for (const std::int64_t step : store.steps()) {
    const std::size_t faults_before = subject.faults().size();
    const Document files = files_document(subject, store, step);
    std::uint64_t bytes = 0;
    for (const Document& file : files)
      bytes += file.at("bytes").get<std::uint64_t>();
    std::string names;
    for (const char* name : {"best", "latest"})
      if (store.target(name) == step) names += cat(names.empty() ? "" : ", ", name);
    const char* const unread = subject.check() ? "intact" : "of the right size";
    checkpoints.push_back(
        {{"step", step},
         {"called", names},
         {"files", files.size()},
         {"bytes", bytes},
         {"state", subject.faults().size() == faults_before ? unread : "damaged"}});
  }
  return checkpoints;
}

Document describe_checkpoint(const Subject& subject) {
  const fs::path& path = subject.path();
  SystemDisk disk;
  const CheckpointStore store(disk, path.parent_path());
  const std::vector<std::int64_t> steps = store.steps();
  const auto step = std::find_if(steps.begin(), steps.end(),
                                 [&](std::int64_t other) { return store.path_of(other) == path; });
  if (step == steps.end()) {
    throw Error(cat("inspect: ", path.string(), " has the MANIFEST of a checkpoint, expected the ",
                    "name step_ and eight digits, too (the step is checked)"));
  }
  Document document = {{"step", *step}, {"files", files_document(subject, store, *step)}};
  if (!subject.faults().empty()) return document;
  Document state(to_json(read_state(path / "state.json")));
  for (const char* const of_the_run : {"options", "logs"})
    state.erase(of_the_run);
  document["state"] = state;
  document["weights"] = weights_document(path / "model.safetensors");
  return document;
}

Document describe_run(const Subject& subject) {
  const fs::path& path = subject.path();
  Document document = Document::object();
  if (has_file(path, "config.json")) {
    const std::string config = (path / "config.json").string();
    document["options"] = parse_json(MappedFile(config, "inspect").bytes(), config);
  }
  for (const char* const log : {"log", "profile"}) {
    const std::string name = cat(log, ".jsonl");
    if (has_file(path, name)) document[log] = records_document(path / name);
  }
  document["checkpoints"] = checkpoints_document(subject, path / "checkpoints");
  return document;
}

bool is_checkpoints(const Subject& subject) {
  SystemDisk disk;
  return !CheckpointStore(disk, subject.path()).steps().empty();
}

// ---- models

bool has_tokenizer(const Subject& subject) {
  return has_file(subject.path(), "tokenizer.json") || has_file(subject.path(), "merges.txt");
}

Document describe_hugging_face(const Subject& subject) {
  const fs::path& path = subject.path();
  Document document =
      hugging_face_config_document(MappedFile((path / "config.json").string(), "inspect").bytes());
  for (const char* const name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (has_file(path, name)) document[name] = weights_document(path / name);
  }
  if (!has_tokenizer(subject)) return document;
  try {
    document["tokenizer"] = vocabulary_document(data::read_tokenizer(path));
  } catch (const Error& error) {
    subject.fault(error.what());
  }
  return document;
}

// ---- tokens

bool is_token_directory(const Subject& subject) {
  const std::vector<std::string> names = SystemDisk().list(subject.path());
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    const bool has_part =
        name.find("train") != std::string::npos || name.find("val") != std::string::npos;
    return name == "manifest.json" || (name.ends_with(".bin") && has_part);
  });
}

Document describe_token_directory(const Subject& subject) {
  const data::TokenDirectory directory = data::open_token_directory(subject.path());
  std::map<std::string, std::uint32_t> checksums;  // by file, as far as there is a manifest
  if (has_file(subject.path(), "manifest.json")) {
    const MappedFile file((subject.path() / "manifest.json").string(), "inspect");
    const data::Manifest manifest = data::parse_manifest(file.bytes());
    for (const auto* const records : {&manifest.train, &manifest.validation})
      for (const data::ShardRecord& record : *records)
        checksums[record.file] = record.crc32c;
  }
  std::uint64_t tokens[] = {0, 0};
  Document shards = Document::array();
  for (const int part : {0, 1}) {
    for (const data::TokenShard& shard : part == 0 ? directory.train : directory.validation) {
      const std::string name = fs::path(shard.path()).filename().string();
      const auto checksum = checksums.find(name);
      std::string state = "not checked";
      if (subject.check() && checksum != checksums.end()) {
        const bool is_intact = crc32c(shard.bytes()) == checksum->second;
        state = is_intact ? "intact" : "damaged";
        if (!is_intact)
          subject.fault(cat(shard.path(), " has another checksum than manifest.json says"));
      }
      tokens[part] += shard.size();
      shards.push_back({{"file", name},
                        {"part", part == 0 ? "train" : "validation"},
                        {"tokens", shard.size()},
                        {"bytes", shard.bytes().size()},
                        {"state", state}});
    }
  }
  Document document = {{"train_tokens", tokens[0]},
                       {"validation_tokens", tokens[1]},
                       {"vocabulary_size", directory.vocabulary_size},
                       {"has_manifest", !checksums.empty()}};
  if (directory.vocabulary) document["vocabulary"] = vocabulary_document(*directory.vocabulary);
  document["shards"] = shards;
  return document;
}

}  // namespace

std::span<const Format> directory_formats() {
  static constexpr Format kFormats[] = {
      {"run of lamina-gpt train",
       [](const Subject& subject) {
         return holds_run(subject.path()) || has_file(subject.path(), "log.jsonl");
       },
       describe_run},
      {"checkpoint of a run",
       [](const Subject& subject) { return has_file(subject.path(), "MANIFEST"); },
       describe_checkpoint},
      {"directory of a Hugging Face model",
       [](const Subject& subject) { return has_file(subject.path(), "config.json"); },
       describe_hugging_face},
      {"directory of token shards", is_token_directory, describe_token_directory},
      {"checkpoints of a run", is_checkpoints,
       [](const Subject& subject) {
         return Document{{"checkpoints", checkpoints_document(subject, subject.path())}};
       }},
      {"directory with a tokenizer", has_tokenizer, [](const Subject& subject) {
         return vocabulary_document(data::read_tokenizer(subject.path()));
       }}};
  return kFormats;
}

}  // namespace lamina::gpt
