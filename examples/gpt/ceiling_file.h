// SPDX-License-Identifier: MIT
// The ceilings of this machine's devices, measured once and kept between runs: percent of roofline
// of two runs is then of the same limits.
#pragma once

#include "core/ceilings.h"

#include <optional>
#include <string>

namespace lamina::gpt {

/// What ceilings.txt in the user's cache directory says, or what is measured now and added there.
/// On the CPU for the present number of threads. Without a cache directory that can be written,
/// each run measures.
Ceilings known_ceilings(Device device, DType dtype, bool allow_tf32 = false);

/// What the file says; nothing when it has not been measured. dtype: with tf32 among them.
std::optional<Ceilings> kept_ceilings(Device device, const std::string& dtype);

}  // namespace lamina::gpt
