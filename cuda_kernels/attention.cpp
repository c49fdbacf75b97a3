// SPDX-License-Identifier: MIT
// The contract of attention on CUDA: Hopper's kernels where they apply, else the portable fused
// ones where those do, else the composition.
#include "core/kernels/attention.h"

#include "cuda_kernels/attention_composed.h"
#include "cuda_kernels/attention_fused.h"
#include "cuda_kernels/attention_hopper.h"

namespace lamina::kernels {
namespace {

enum class Implementation { hopper, fused, composed };

template <class Args>
Implementation choose(const Args& args, CudaStream stream) {
  const DType dtype = args.qkv.dtype;
  if (!attention_fused_aligned(args)) return Implementation::composed;
  if (attention_hopper_supports(args.shape, dtype) && attention_hopper_runs(stream.device)) {
    return Implementation::hopper;
  }
  return attention_fused_supports(args.shape, dtype) ? Implementation::fused
                                                     : Implementation::composed;
}

std::int64_t workspace(Implementation implementation, const AttentionShape& shape, bool backward) {
  switch (implementation) {
    case Implementation::hopper:
      return attention_hopper_workspace(shape, backward);
    case Implementation::fused:
      return attention_fused_workspace(shape, backward);
    default:
      return attention_composed_workspace(shape, backward);
  }
}

}  // namespace

void run(const Attention& args, CudaStream stream) {
  switch (choose(args, stream)) {
    case Implementation::hopper:
      return attention_hopper(args, stream);
    case Implementation::fused:
      return attention_fused(args, stream);
    default:
      return attention_composed(args, stream);
  }
}

void run(const AttentionBackward& args, CudaStream stream) {
  switch (choose(args, stream)) {
    case Implementation::hopper:
      return attention_hopper_backward(args, stream);
    case Implementation::fused:
      return attention_fused_backward(args, stream);
    default:
      return attention_composed_backward(args, stream);
  }
}

std::int64_t workspace_bytes(const Attention& args, CudaStream stream) {
  return workspace(choose(args, stream), args.shape, false);
}

std::int64_t workspace_bytes(const AttentionBackward& args, CudaStream stream) {
  return workspace(choose(args, stream), args.shape, true);
}

}  // namespace lamina::kernels
