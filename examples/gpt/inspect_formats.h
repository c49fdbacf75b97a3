// SPDX-License-Identifier: MIT
// What `inspect` knows of each format: a function that recognises it and one that says what is in
// it. For inspect*.cpp only.
#pragma once

#include "core/mapped_file.h"
#include "examples/gpt/text.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

/// What is printed, in this order. An array of objects is a table.
using Document = nlohmann::ordered_json;

/// The file or directory that is looked at.
class Subject {
 public:
  /// Maps a file. Throws Error when it is missing, empty or cannot be read.
  Subject(std::filesystem::path path, bool check);

  const std::filesystem::path& path() const { return path_; }

  std::string name() const { return path_.filename().string(); }

  bool is_directory() const { return !file_; }

  /// Whether everything is to be read and checked.
  bool check() const { return check_; }

  /// Of a file.
  std::string_view bytes() const { return file_->bytes(); }

  /// The object that a file holds, null when it begins with something else. Throws Error when it is
  /// broken or of more than 256 MiB.
  const nlohmann::json& json() const;

  /// Something that is wrong: the rest is shown, and the exit status is 1.
  void fault(std::string what) const { faults_.push_back(std::move(what)); }

  const std::vector<std::string>& faults() const { return faults_; }

 private:
  std::filesystem::path path_;  // of a directory absolute and without links
  bool check_;
  std::optional<MappedFile> file_;
  mutable std::optional<nlohmann::json> json_;
  mutable std::vector<std::string> faults_;
};

struct Format {
  std::string_view name;
  bool (*matches)(const Subject&);
  Document (*describe)(const Subject&);  // throws Error when the file is not what it seems to be
};

/// In the order in which they are tried.
std::span<const Format> file_formats();
std::span<const Format> directory_formats();

/// Of a safetensors file or an index, without the list of its tensors.
Document weights_document(const std::filesystem::path& path);

/// The fields of a config.json, and whether `import` takes it. Throws Error when it is not JSON.
Document hugging_face_config_document(std::string_view text);

Document vocabulary_document(const data::Vocabulary& vocabulary);

/// Of a log.jsonl or profile.jsonl: its records, and lines that are none.
Document records_document(const std::filesystem::path& path);

}  // namespace lamina::gpt
