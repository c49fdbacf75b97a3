// SPDX-License-Identifier: MIT
// A run directory as `lamina-gpt report` sees it. All but log.jsonl may be missing, and what a
// record does not say is NaN or empty: a run that was killed is still worth a look.
#pragma once

#include "core/profile.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// A "step" record of log.jsonl.
struct StepRecord {
  double step = kUnknown, loss = kUnknown, floor = kUnknown;  // nats per token
  double rate = kUnknown;                                     // tokens per second
  double ms = kUnknown;                                       // per step
  double memory = kUnknown;                                   // bytes
};

/// Loss and floor on the targets of one character class, in nats per target.
struct Skill {
  double targets = kUnknown, loss = kUnknown, floor = kUnknown;

  double excess() const { return loss - floor; }
};

/// An "eval" record of log.jsonl, in nats per token.
struct EvalRecord {
  double step = kUnknown, loss = kUnknown, sigma = kUnknown;
  double floor = kUnknown, excess = kUnknown, excess_sigma = kUnknown;
  std::map<std::string, Skill> skills;
};

struct RunRecord {
  std::string name;           // of the directory
  nlohmann::json start, end;  // records; end is "end", "stop" or "error"; null when missing
  nlohmann::json config;      // null when missing
  std::vector<StepRecord> steps;
  std::vector<EvalRecord> evaluations;
  std::vector<Profile> profile;  // figures that are missing are 0, step_ms NaN
  Ceilings kept;  // of another run on the same device, where this one has measured none
  std::string samples;
  std::size_t lines_left_out = 0;  // of the two .jsonl files: not JSON objects, as after a kill
};

/// Hands over the objects of a .jsonl file, line by line. Returns how many other lines there are; 0
/// without a file.
std::size_t for_each_record(const std::filesystem::path& path,
                            const std::function<void(nlohmann::json&)>& take);

/// Throws Error when `directory` has no log.jsonl that can be read.
RunRecord read_run(const std::filesystem::path& directory);

/// The number at `key`; NaN when there is none.
double number_at(const nlohmann::json& object, std::string_view key);

/// The string at `key`; empty when there is none.
std::string text_at(const nlohmann::json& object, std::string_view key);

}  // namespace lamina::gpt
