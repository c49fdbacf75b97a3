// SPDX-License-Identifier: MIT
#include "examples/gpt/training_profile.h"

#include "core/text.h"
#include "examples/gpt/ceiling_file.h"
#include "examples/gpt/training_step.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lamina::gpt {

TrainingProfile::TrainingProfile(const Options& options, Device device,
                                 const std::filesystem::path& directory, std::int64_t steps_before,
                                 LiveLine& live)
    : table_{.depth = static_cast<int>(options.profile_depth), .fold = options.profile_fold},
      live_(live),
      log_(directory / "profile.jsonl"),
      profiler_(device, {.every = std::min(options.profile, options.steps),
                         .ceilings = known_ceilings(device, compute_dtype(options),
                                                    options.dtype == "tf32"),
                         .on_sample = [this, steps_before](Profile profile) {
                           profile.step += steps_before;
                           log_.write(to_json(profile));
                           print(table_of(profile, table_));
                         }}) {}

void TrainingProfile::finish() {
  if (profiler_.mean().samples != 1) print(profiler_.table(table_));
}

void TrainingProfile::print(const std::string& table) {
  live_.print(cat("\n", table));
}

nlohmann::json to_json(const Profile& profile) {
  nlohmann::json rows = nlohmann::json::array();
  for (const ProfileRow& row : profile.rows) {
    rows.push_back({{"layer", row.layer},
                    {"direction", row.direction == Direction::forward ? "forward" : "backward"},
                    {"kernel", row.kernel},
                    {"calls", row.calls},
                    {"ms", row.ms},
                    {"bytes", row.bytes},
                    {"flops", row.flops},
                    {"live_bytes", row.live_bytes}});
  }
  return {{"step", profile.step},
          {"step_ms", profile.step_ms},
          {"profiled_ms", profile.profiled_ms},
          {"named_ms", profile.named_ms()},
          {"ceilings",
           {{"copy_gb_s", profile.ceilings.copy_gb_s},
            {"matmul_tflop_s", profile.ceilings.matmul_tflop_s},
            {"dtype", profile.ceilings.dtype}}},
          {"peak_bytes", profile.peak_bytes},
          {"rows", rows}};
}

}  // namespace lamina::gpt
