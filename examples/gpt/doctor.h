// SPDX-License-Identifier: MIT
// lamina-gpt doctor: what this machine and this build offer, what they reach in a copy and in
// matrix products, a second of training per device, and what is missing.
#pragma once

#include "examples/gpt/live_line.h"
#include "examples/gpt/options.h"

namespace lamina::gpt {

/// Prints the report. Returns 0, also when something is missing, or 1 when a device does not train
/// as it should.
int doctor(const Options& options, Console& console);

}  // namespace lamina::gpt
