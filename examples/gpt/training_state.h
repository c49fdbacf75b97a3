// SPDX-License-Identifier: MIT
// What a checkpoint of a training holds beside tensors: state.json.
#pragma once

#include "examples/gpt/run_directory.h"

#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lamina::gpt {

struct TrainingState {
  std::int64_t step = 0;                      // steps done; the data of the next one follow from it
  std::uint64_t seed = 0, random_offset = 0;  // of the default generator
  std::int64_t evaluated_step = -1, best_step = -1;
  double best = std::numeric_limits<double>::infinity();  // validation loss, nats per token
  double trained_seconds = 0.0, elapsed_seconds = 0.0;
  LogSizes logs;
  std::string data;        // what tells it from other data
  nlohmann::json options;  // of the run, the schedule's among them
  std::string version;     // of the program
};

nlohmann::json to_json(const TrainingState& state);

/// Throws Error with the path for a file that is not one.
TrainingState read_state(const std::filesystem::path& path);

/// Throws UsageError when an option that decides about weights or data is another than that of the
/// run. Returns the names of the others that differ, with both values.
std::vector<std::string> expect_same_run(const nlohmann::json& run, const nlohmann::json& now);

}  // namespace lamina::gpt
