// SPDX-License-Identifier: MIT
// The checkpoints of a run: a directory for each, which appears whole or not at all and says by
// itself whether it is intact, whatever moment a process or the power ends at. docs/checkpoints.md.
//
//   checkpoints/step_00001000/...       files, and last MANIFEST with the checksum of each
//   checkpoints/latest, best            each the name of one of them
#pragma once

#include "examples/gpt/disk.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

/// Which checkpoints stay, beside the one that `best` names.
struct Retention {
  std::int64_t newest = 2;  // at least 1
  std::int64_t every = 0;   // and those of steps that it divides; 0: none
};

/// A file of a checkpoint; the bytes belong to the caller.
struct CheckpointFile {
  std::string name;
  std::vector<std::string_view> pieces;
};

/// What a MANIFEST says of a file.
struct FileRecord {
  std::string name, checksum;  // CRC-32C in hexadecimal
  std::uint64_t bytes = 0;
};

/// The step in the first line of a MANIFEST; nothing when the text is none.
std::optional<std::int64_t> manifest_step(std::string_view text);

/// The files that the text of a MANIFEST names; nothing when it is not one, to the bit, of this
/// step.
std::optional<std::vector<FileRecord>> parse_manifest(std::int64_t step, std::string_view text);

/// What is wrong with the checkpoint in a directory of whatever name, as CheckpointStore::fault()
/// says it.
std::string fault_of_copy(Disk& disk, const std::filesystem::path& directory,
                          std::span<const std::string_view> only);

/// One writer at a time; the run's lock sees to that. All throw the Error of the disk.
class CheckpointStore {
 public:
  /// The directory is made by the first commit(); its parent exists. `disk` outlives the store.
  CheckpointStore(Disk& disk, std::filesystem::path directory);

  /// The directory of a step's checkpoint.
  std::filesystem::path path_of(std::int64_t step) const;

  /// Steps that have a directory, the newest first. They need not be intact.
  std::vector<std::int64_t> steps() const;

  /// What its MANIFEST says; nothing when it is damaged. Throws Error when it cannot be read.
  std::optional<std::vector<FileRecord>> files(std::int64_t step) const;

  /// What is wrong with a checkpoint, with the name of the file; empty when it is intact. Reads all
  /// of it, or MANIFEST and the files `only`.
  std::string fault(std::int64_t step, std::span<const std::string_view> only = {}) const;

  /// The newest that is intact. Those that are newer and are not stay where they are, and `report`
  /// is told what is wrong with each.
  std::optional<std::int64_t> newest_intact(
      const std::function<void(const std::string&)>& report) const;

  /// Writes a checkpoint, which lasts when this returns, and lets `latest` name it. What was there
  /// of that step goes. When it throws, the checkpoints before are as they were.
  void commit(std::int64_t step, std::span<const CheckpointFile> files) const;

  /// Lets the file `name`, "latest" or "best", name a step.
  void point(std::string_view name, std::int64_t step) const;

  /// The step that such a file names, if it has a directory.
  std::optional<std::int64_t> target(std::string_view name) const;

  /// What such a file names that is not there, with its path; empty when all is well.
  std::string dangling(std::string_view name) const;

  /// Removes what `keep` does not ask for. `latest` and `best` stay, and so does what is newer than
  /// `latest`: it is no checkpoint of this run's past.
  void prune(const Retention& keep) const;

  /// Removes the checkpoints of later steps; `latest` names this one.
  void go_back_to(std::int64_t step) const;

  /// Removes what writers left that came to no end.
  void clean() const;

 private:
  std::string named_by(std::string_view name) const;
  void discard(std::int64_t step) const;
  void remove_all(const std::filesystem::path& path) const;
  void write_synced(const std::filesystem::path& path,
                    std::span<const std::string_view> pieces) const;

  Disk* disk_;
  std::filesystem::path directory_;
};

}  // namespace lamina::gpt
