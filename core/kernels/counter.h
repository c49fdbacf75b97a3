// SPDX-License-Identifier: MIT
// Contract: a whole number in device memory that kernels read, such as how far a captured step has
// moved on in the random stream.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <cstdint>
#include <string_view>

namespace lamina::kernels {

/// counter[0] += by, modulo 2^64 or 2^32.
struct Increment {
  static constexpr std::string_view kName = "increment";
  Flat counter;  // [1], i64 or i32, in and out
  std::int64_t by;

  Cost cost() const { return {.bytes = 2 * bytes_of(counter)}; }
};

void run(const Increment& args, CpuStream stream);
void run(const Increment& args, CudaStream stream);

}  // namespace lamina::kernels
