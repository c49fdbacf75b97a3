// SPDX-License-Identifier: MIT
#include "core/kernels/counter.h"

namespace lamina::kernels {

void run(const Increment& args, CpuStream) {
  *args.counter.as<std::uint64_t>() += static_cast<std::uint64_t>(args.by);
}

}  // namespace lamina::kernels
