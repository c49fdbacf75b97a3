// SPDX-License-Identifier: MIT
// lamina-gpt train: the training loop, its evaluations, checkpoints and run directory. The loop
// queues work and waits for the device only where it logs.
#pragma once

#include "examples/gpt/live_line.h"
#include "examples/gpt/options.h"

#include <cstdint>

namespace lamina::gpt {

/// Trains as `options` say (from parse_options) and returns the exit status: 0, or 128 + signal
/// after SIGINT, SIGTERM or SIGHUP. Throws Error, InformationLeak or UsageError.
int train(const Options& options, Console& console);

/// Sets the number of OpenMP threads if `count` is not 0.
void set_threads(std::int64_t count);

}  // namespace lamina::gpt
