// SPDX-License-Identifier: MIT
// Attention composed of cuBLASLt products and a softmax kernel, with the scores in memory: any head
// size, any time, f32, f16 and bf16. attention.cpp takes it where the fused kernels do not apply;
// the tests hold both against the CPU.
#pragma once

#include "core/kernels/attention.h"

namespace lamina::kernels {

/// Bytes of workspace: scores of as many heads as fit 256 MiB (at least one), and 32 MiB for
/// cuBLASLt.
std::int64_t attention_composed_workspace(const AttentionShape& shape, bool backward);

/// f32, f16 and bf16; f32 products are exact (no TF32). Bit-identical from run to run.
void attention_composed(const Attention& args, CudaStream stream);
void attention_composed_backward(const AttentionBackward& args, CudaStream stream);

}  // namespace lamina::kernels
