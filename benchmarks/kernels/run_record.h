// SPDX-License-Identifier: MIT
// What a result of a benchmark says about how it came about: machine, versions, date, command.
#pragma once

#include "core/stream.h"

#include <nlohmann/json.hpp>
#include <string>

namespace lamina::bench {

/// {"machine": {...}, "date", "command", "commit"}: the GPU of `stream` with its driver, clocks
/// (MHz) and power limit (W), as nvidia-smi tells them, and the versions of CUDA. Paths in the
/// command are cut to file names.
nlohmann::ordered_json run_record(int argc, const char* const* argv, const std::string& commit,
                                  CudaStream stream);

}  // namespace lamina::bench
