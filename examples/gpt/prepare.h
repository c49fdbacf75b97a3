// SPDX-License-Identifier: MIT
// lamina-gpt prepare: text files to a directory of token shards (token_directory.h), encoded on all
// cores, a piece of some megabytes at a time.
#pragma once

#include "examples/gpt/live_line.h"
#include "examples/gpt/options.h"

namespace lamina::gpt {

/// Writes the directory that --out names, which appears when it is complete. Returns the exit
/// status; throws UsageError or Error.
int prepare(const Options& options, Console& console);

}  // namespace lamina::gpt
