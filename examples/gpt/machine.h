// SPDX-License-Identifier: MIT
// What a run runs on, for people: doctor prints it, train logs it, report shows it.
#pragma once

#include "core/device.h"

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lamina::gpt {

/// Names and texts, in the order in which they are shown.
using Facts = std::vector<std::pair<std::string, std::string>>;

/// Build, CPU, memory and BLAS.
Facts host_facts();

/// GPU, its clocks, and the versions of driver and CUDA; nothing for the CPU.
Facts gpu_facts(Device device);

/// The facts of the host and of the device as one JSON object.
nlohmann::json machine_facts(Device device);

/// What the machine or the build lacks for full speed, and how to get it: a sentence each.
std::vector<std::string> missing_things();

/// The instruction sets among the flags of /proc/cpuinfo that the kernels can use: "avx2 fma".
std::string vector_features(std::string_view flags);

}  // namespace lamina::gpt
