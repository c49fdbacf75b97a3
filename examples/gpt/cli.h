// SPDX-License-Identifier: MIT
// The commands of lamina-gpt as a function, so that tests run them in their own process.
#pragma once

#include "examples/gpt/live_line.h"

#include <span>
#include <string>

namespace lamina::gpt {

/// Runs the command line without the program's name. Returns the exit status: 0 done, 1 failed, 2
/// wrong usage, 3 information leak, 128 + signal stopped. Errors are one line on console.errors.
int run_command(std::span<const std::string> arguments, Console& console);

}  // namespace lamina::gpt
