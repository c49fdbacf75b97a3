// SPDX-License-Identifier: MIT
// Fused attention for f16 and bf16 on sm_80 and newer: scores stay on the chip. Called by the
// dispatch of attention.cpp, which takes the composed kernels where these do not apply:
//   attention_fused_supports(args.shape, args.qkv.dtype) && attention_fused_aligned(args)
// Dao 2023, "FlashAttention-2", https://arxiv.org/abs/2307.08691.
#pragma once

#include "core/kernels/attention.h"

namespace lamina::kernels {

/// True for f16 and bf16 with a head size of 32, 64, 96 or 128 and a positive scale.
bool attention_fused_supports(const AttentionShape& shape, DType dtype);

/// True when every matrix starts at a multiple of 16 bytes and has a stride of a multiple of 8
/// elements, which the 16-byte loads need.
bool attention_fused_aligned(const Attention& args);
bool attention_fused_aligned(const AttentionBackward& args);

/// Bytes of workspace: none forward, 4 per row and head (16-byte aligned) backward.
std::int64_t attention_fused_workspace(const AttentionShape& shape, bool backward);

/// Supported and aligned operands only. Bit-identical from run to run.
void attention_fused(const Attention& args, CudaStream stream);
void attention_fused_backward(const AttentionBackward& args, CudaStream stream);

}  // namespace lamina::kernels
