// SPDX-License-Identifier: MIT
// lamina-gpt tokenizer: a byte-pair tokenizer from the user's own text.
#pragma once

#include "examples/gpt/live_line.h"
#include "examples/gpt/options.h"

namespace lamina::gpt {

/// Writes the tokenizer.json that --out names. Returns the exit status; throws UsageError or Error.
int make_tokenizer(const Options& options, Console& console);

}  // namespace lamina::gpt
