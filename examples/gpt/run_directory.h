// SPDX-License-Identifier: MIT
// The directory of a run: one trainer at a time, and logs that end where a checkpoint was made.
#pragma once

#include "examples/gpt/disk.h"
#include "examples/gpt/options.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace lamina::gpt {

/// Whether the directory is one that a RunDirectory has made.
bool holds_run(const std::filesystem::path& path);

/// Throws UsageError when --out is not what --resume asks for.
void expect_out(const Options& options);

class RunDirectory {
 public:
  /// Makes the directory that --out says, or a new one, and locks it while this lives. Throws Error
  /// with the process that holds the lock, or with the reason.
  explicit RunDirectory(const Options& options);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  void lock();

  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// A file that is replaced as a whole, and lasts when this returns.
void write_synced(Disk& disk, const std::filesystem::path& path, const std::string& text);

/// Bytes of each file that a training only appends to, by name.
using LogSizes = std::map<std::string, std::uintmax_t>;

LogSizes log_sizes(const std::filesystem::path& run);

/// Cuts them back to `sizes` and removes those that are not among them. Returns a line for each
/// that is shorter.
std::vector<std::string> cut_logs(const std::filesystem::path& run, const LogSizes& sizes);

}  // namespace lamina::gpt
