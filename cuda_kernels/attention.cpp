// SPDX-License-Identifier: MIT
// The contract of attention on CUDA: the fused kernels where they apply, else the composition.
#include "core/kernels/attention.h"

#include "cuda_kernels/attention_composed.h"
#include "cuda_kernels/attention_fused.h"

namespace lamina::kernels {
namespace {

template <class Args>
bool use_fused(const Args& args) {
  return attention_fused_supports(args.shape, args.qkv.dtype) && attention_fused_aligned(args);
}

}  // namespace

void run(const Attention& args, CudaStream stream) {
  if (use_fused(args)) {
    attention_fused(args, stream);
  } else {
    attention_composed(args, stream);
  }
}

void run(const AttentionBackward& args, CudaStream stream) {
  if (use_fused(args)) {
    attention_fused_backward(args, stream);
  } else {
    attention_composed_backward(args, stream);
  }
}

std::int64_t workspace_bytes(const Attention& args, CudaStream /*stream*/) {
  return use_fused(args) ? attention_fused_workspace(args.shape, false)
                         : attention_composed_workspace(args.shape, false);
}

std::int64_t workspace_bytes(const AttentionBackward& args, CudaStream /*stream*/) {
  return use_fused(args) ? attention_fused_workspace(args.shape, true)
                         : attention_composed_workspace(args.shape, true);
}

}  // namespace lamina::kernels
