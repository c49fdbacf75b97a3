// SPDX-License-Identifier: MIT
#include "examples/gpt/report_run.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/cache.h"

#include <fstream>
#include <system_error>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// The member of an object; null when there is none.
const Json& member(const Json& object, std::string_view key) {
  static const Json null;
  const auto at = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && at != object.end() ? *at : null;
}

EvalRecord eval_record(const Json& from) {
  EvalRecord record{.step = number_at(from, "step"),
                    .loss = number_at(from, "val_loss"),
                    .sigma = number_at(from, "val_sigma"),
                    .floor = number_at(from, "floor"),
                    .excess = number_at(from, "excess"),
                    .excess_sigma = number_at(from, "excess_sigma"),
                    .skills = {}};
  for (const auto& [name, skill] : member(from, "skills").items()) {
    record.skills[name] = {.targets = number_at(skill, "targets"),
                           .loss = number_at(skill, "loss"),
                           .floor = number_at(skill, "floor")};
  }
  return record;
}

/// 0 for what is missing.
double figure_at(const Json& object, std::string_view key) {
  const double value = number_at(object, key);
  return std::isfinite(value) ? value : 0.0;
}

Profile profile_of(const Json& from) {
  const Json& ceilings = member(from, "ceilings");
  Profile profile{.step = static_cast<std::int64_t>(figure_at(from, "step")),
                  .step_ms = number_at(from, "step_ms"),
                  .profiled_ms = figure_at(from, "profiled_ms"),
                  .peak_bytes = figure_at(from, "peak_bytes"),
                  .ceilings = {.copy_gb_s = figure_at(ceilings, "copy_gb_s"),
                               .matmul_tflop_s = figure_at(ceilings, "matmul_tflop_s"),
                               .dtype = text_at(ceilings, "dtype")},
                  .rows = {}};
  for (const Json& row : member(from, "rows")) {
    const bool is_backward = text_at(row, "direction") == "backward";
    profile.rows.push_back({.layer = text_at(row, "layer"),
                            .direction = is_backward ? Direction::backward : Direction::forward,
                            .kernel = text_at(row, "kernel"),
                            .calls = figure_at(row, "calls"),
                            .ms = figure_at(row, "ms"),
                            .bytes = figure_at(row, "bytes"),
                            .flops = figure_at(row, "flops"),
                            .live_bytes = figure_at(row, "live_bytes")});
  }
  return profile;
}

}  // namespace

double number_at(const Json& object, std::string_view key) {
  const Json& value = member(object, key);
  return value.is_number() ? value.get<double>() : kUnknown;
}

std::string text_at(const Json& object, std::string_view key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}

std::size_t for_each_record(const fs::path& path, const std::function<void(Json&)>& take) {
  std::size_t left_out = 0;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    Json record = Json::parse(line, nullptr, false);
    if (record.is_object()) {
      take(record);
    } else {
      ++left_out;
    }
  }
  return left_out;
}

RunRecord read_run(const fs::path& directory) {
  const fs::path log = directory / "log.jsonl";
  std::error_code error;
  if (!fs::is_regular_file(log, error) || !std::ifstream(log)) {
    throw Error(cat("report: ", log.string(),
                    " cannot be read, expected a run directory of lamina-gpt train"));
  }
  RunRecord run;
  run.name = fs::weakly_canonical(directory, error).filename().string();
  run.lines_left_out += for_each_record(log, [&](Json& record) {
    const std::string event = text_at(record, "event");
    if (event == "start") {
      run.start = std::move(record);
    } else if (event == "step") {
      run.steps.push_back({.step = number_at(record, "step"),
                           .loss = number_at(record, "loss"),
                           .floor = number_at(record, "floor"),
                           .rate = number_at(record, "tok_s"),
                           .ms = number_at(record, "ms"),
                           .memory = number_at(record, "memory")});
    } else if (event == "eval") {
      run.evaluations.push_back(eval_record(record));
    } else if (event == "end" || event == "stop" || event == "error") {
      run.end = std::move(record);
    }
  });
  run.lines_left_out += for_each_record(directory / "profile.jsonl", [&](const Json& record) {
    run.profile.push_back(profile_of(record));
  });
  run.config = Json::parse(text_of(directory / "config.json"), nullptr, false);
  if (!run.config.is_object()) run.config = nullptr;
  run.samples = text_of(directory / "samples.txt");
  return run;
}

}  // namespace lamina::gpt
