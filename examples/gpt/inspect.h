// SPDX-License-Identifier: MIT
// lamina-gpt inspect: what files and directories are, by content and name, and what is in them.
#pragma once

#include "examples/gpt/live_line.h"
#include "examples/gpt/options.h"

namespace lamina::gpt {

/// Prints what each of options.files holds, and goes on after one that cannot be read. Headers are
/// read and large files are not, but with options.check. Returns the exit status: 1 when a file
/// cannot be read, is of no known format or is damaged. Throws UsageError without a file.
int inspect(const Options& options, Console& console);

}  // namespace lamina::gpt
