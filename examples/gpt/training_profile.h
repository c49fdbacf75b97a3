// SPDX-License-Identifier: MIT
// --profile of lamina-gpt train: a table of each sampled step, a line of profile.jsonl for it, and
// the table of their mean at the end.
#pragma once

#include "core/profiler.h"
#include "examples/gpt/live_line.h"
#include "examples/gpt/log.h"
#include "examples/gpt/options.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>

namespace lamina::gpt {

class TrainingProfile {
 public:
  /// Measures the ceilings of the device, unless they are known, and makes profile.jsonl in the run
  /// directory. `steps_before` were done when the run was left. `options` and `live` must outlive
  /// the object.
  TrainingProfile(const Options& options, Device device, const std::filesystem::path& directory,
                  std::int64_t steps_before, LiveLine& live);

  /// One step of the training. See Profiler.
  void step(StepGraph& graph, const std::function<void()>& work) { profiler_.step(graph, work); }

  /// After the last step.
  void finish();

 private:
  void print(const std::string& table);

  ProfileTableOptions table_;
  LiveLine& live_;
  RunLog log_;
  Profiler profiler_;
};

/// A line of profile.jsonl.
nlohmann::json to_json(const Profile& profile);

}  // namespace lamina::gpt
