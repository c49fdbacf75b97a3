// SPDX-License-Identifier: MIT
// log.jsonl of a run directory: one JSON object per line, written through at once, so that a run
// that dies leaves every line it has logged.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json_fwd.hpp>

namespace lamina::gpt {

class RunLog {
 public:
  /// Goes on behind what the file holds. Throws Error with the path and the reason.
  explicit RunLog(const std::filesystem::path& path);

  /// Appends a line. Values that are not finite become null, bytes that are not UTF-8 U+FFFD.
  /// Throws Error with the reason, as a full disk.
  void write(const nlohmann::json& record);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

/// Writes a whole file. Throws Error with the path and the reason.
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace lamina::gpt
