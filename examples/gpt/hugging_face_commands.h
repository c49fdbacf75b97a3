// SPDX-License-Identifier: MIT
// lamina-gpt import and lamina-gpt export: models from and for Hugging Face's transformers.
#pragma once

#include "examples/gpt/live_line.h"
#include "examples/gpt/options.h"

namespace lamina::gpt {

/// Writes a checkpoint of the directory that `run` names to --out. Returns the exit status; throws
/// UsageError or Error.
int import_model(const Options& options, Console& console);

/// Writes the checkpoint that `run` names as a directory to --out. Likewise.
int export_model(const Options& options, Console& console);

}  // namespace lamina::gpt
