// SPDX-License-Identifier: MIT
// Fused attention for f16 and bf16 with Hopper's own instructions (sm_90a). Called by the dispatch
// of attention.cpp, which takes the portable kernels of attention_fused.h where these do not apply:
//   attention_hopper_runs(device) && attention_hopper_supports(args.shape, args.qkv.dtype) &&
//       attention_fused_aligned(args)
// Shah et al. 2024, "FlashAttention-3", https://arxiv.org/abs/2407.08608.
#pragma once

#include "core/kernels/attention.h"

namespace lamina::kernels {

/// True where the CUDA device is of compute capability 9.0 and the program holds code for sm_90a.
bool attention_hopper_runs(int device);

/// True for f16 and bf16 with a head size of 64 or 128 and a positive scale.
bool attention_hopper_supports(const AttentionShape& shape, DType dtype);

/// Bytes of workspace: 8 per row and head (rows rounded up to 64), and a row of f32 for 64 rows of
/// dqkv where there is a column sum. The forward pass needs none.
std::int64_t attention_hopper_workspace(const AttentionBackward& args);

/// Supported and aligned operands only. Bit-identical from run to run. With the column sum, which
/// costs no read of dqkv.
void attention_hopper(const Attention& args, CudaStream stream);
void attention_hopper_backward(const AttentionBackward& args, CudaStream stream);

}  // namespace lamina::kernels
