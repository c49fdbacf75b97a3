// SPDX-License-Identifier: MIT
#include "examples/gpt/training_state.h"

#include "core/text.h"

#include <algorithm>
#include <fstream>
#include <string_view>

namespace lamina::gpt {

namespace {

using Json = nlohmann::json;

// The text itself is checked, and may lie elsewhere.
constexpr std::string_view kFixed[] = {
    "preset",  "seed", "corpus", "level",    "random-tokens", "layers",     "heads", "width",
    "context", "bias", "dtype",  "residual", "batch",         "accumulate", "from"};

}  // namespace

Json to_json(const TrainingState& state) {
  return {{"step", state.step},
          {"seed", state.seed},
          {"random_offset", state.random_offset},
          {"evaluated_step", state.evaluated_step},
          {"best_step", state.best_step},
          {"best", state.best},  // null when there is none yet
          {"trained_s", state.trained_seconds},
          {"elapsed_s", state.elapsed_seconds},
          {"logs", state.logs},
          {"data", state.data},
          {"options", state.options},
          {"version", state.version}};
}

TrainingState read_state(const std::filesystem::path& path) {
  try {
    std::ifstream file(path);
    const Json json = Json::parse(file);
    TrainingState state;
    json.at("step").get_to(state.step);
    json.at("seed").get_to(state.seed);
    json.at("random_offset").get_to(state.random_offset);
    json.at("evaluated_step").get_to(state.evaluated_step);
    json.at("best_step").get_to(state.best_step);
    if (!json.at("best").is_null()) json.at("best").get_to(state.best);
    json.at("trained_s").get_to(state.trained_seconds);
    json.at("elapsed_s").get_to(state.elapsed_seconds);
    json.at("logs").get_to(state.logs);
    json.at("data").get_to(state.data);
    json.at("options").get_to(state.options);
    json.at("version").get_to(state.version);
    return state;
  } catch (const Json::exception& error) {
    throw Error(cat("checkpoint: ", path.string(), " cannot be used: ", error.what()));
  }
}

std::vector<std::string> expect_same_run(const Json& run, const Json& now) {
  std::vector<std::string> changes;
  Json all = run;
  all.update(now);
  for (const auto& [key, ignored] : all.items()) {
    const Json then = run.value(key, Json()), value = now.value(key, Json());
    if (then == value) continue;
    if (std::find(std::begin(kFixed), std::end(kFixed), key) != std::end(kFixed)) {
      throw UsageError(cat("--", key, " is ", value.dump(), ", expected ", then.dump(),
                           " (that of the run in --out); give another --out for a new run"));
    }
    changes.push_back(cat("--", key, " ", then.dump(), " -> ", value.dump()));
  }
  return changes;
}

}  // namespace lamina::gpt
