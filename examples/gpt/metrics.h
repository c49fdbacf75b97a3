// SPDX-License-Identifier: MIT
// The numbers of log.jsonl in the forms of other tools: CSV, and events for TensorBoard.
#pragma once

#include "examples/gpt/event_file.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

class Metrics {
 public:
  /// `formats` is "none", or some of "csv" and "tensorboard" with commas between. Files are made in
  /// `directory`, or gone on with. Throws Error with the path of one that cannot be.
  Metrics(const std::filesystem::path& directory, std::string_view formats);

  /// Adds the numbers of a record whose "event" is "step" or "eval"; others have none to plot.
  /// Those of an object inside are named "outer/inner". The columns of a CSV file are those of the
  /// first record. Throws Error with the reason, as a full disk.
  void write(const nlohmann::json& record);

 private:
  struct Table {
    std::filesystem::path path;
    std::ofstream file;
    std::vector<std::string> columns;
  };

  void write_row(const std::string& event, const std::vector<Scalar>& scalars);

  std::filesystem::path directory_;
  bool has_csv_;
  std::map<std::string, Table> tables_;  // by event
  std::optional<EventFile> events_;
};

}  // namespace lamina::gpt
