// SPDX-License-Identifier: MIT
// lamina-gpt profile: a trace of a few training steps and a picture of their memory, as files.
#pragma once

#include "examples/gpt/live_line.h"
#include "examples/gpt/options.h"

namespace lamina::gpt {

/// Builds model and optimizer, trains two steps kernel by kernel, from which the memory file is
/// made, and then traces `options.steps` steps; on CUDA these are replays of a captured graph
/// unless options.eager. Prints where memory and time went. Returns the exit status. Throws Error.
int profile(const Options& options, Console& console);

}  // namespace lamina::gpt
