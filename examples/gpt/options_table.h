// SPDX-License-Identifier: MIT
// The options of lamina-gpt as data, and the presets. For options.cpp only.
#pragma once

#include "examples/gpt/options.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace lamina::gpt {

/// Where the value of an option goes.
using Member = std::variant<std::int64_t Options::*, double Options::*, std::string Options::*,
                            bool Options::*, std::vector<std::string> Options::*>;

struct Spec {
  std::string_view group, name;
  std::string_view value;  // what --help calls it; empty for a switch
  std::string_view help;
  unsigned commands;  // bits of Command
  Member member;
  double least = 0.0, most = 1e9;
  bool above_least = false;  // least itself is not allowed
  std::vector<std::string_view> choices = {};
  bool is_list = false;           // of choices, with commas between
  std::string_view implied = {};  // value of the option without one, "--name"; then also "--name=V"
};

/// Every option but --help, in the order of --help.
const std::vector<Spec>& specs();

/// Sets what a preset says: "toy-cpu", "toy", "gpt2", "gpt2-medium", ... A profile has few steps
/// whatever the preset.
void apply_preset(Command command, std::string_view preset, Options& options);

/// The options of a command before presets and flags.
Options defaults_of(Command command);

}  // namespace lamina::gpt
