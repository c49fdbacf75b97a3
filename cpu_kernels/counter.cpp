// SPDX-License-Identifier: MIT
#include "core/kernels/counter.h"

namespace lamina::kernels {

void run(const Increment& args, CpuStream) {
  if (args.counter.dtype == DType::i32) {
    *args.counter.as<std::uint32_t>() += static_cast<std::uint32_t>(args.by);
  } else {
    *args.counter.as<std::uint64_t>() += static_cast<std::uint64_t>(args.by);
  }
}

}  // namespace lamina::kernels
