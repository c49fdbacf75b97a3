// SPDX-License-Identifier: MIT
// The contract of attention on CUDA: Hopper's kernels where they apply, else the portable fused
// ones where those do, else the composition.
#include "core/kernels/attention.h"

#include "cuda_kernels/attention_composed.h"
#include "cuda_kernels/attention_fused.h"
#include "cuda_kernels/attention_hopper.h"

#include <algorithm>
#include <cstdint>

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
  expect_column_sum(args);
  switch (choose(args, stream)) {
    case Implementation::hopper:
      return attention_hopper_backward(args, stream);
    case Implementation::fused:
      attention_fused_backward(args, stream);
      break;
    default:
      attention_composed_backward(args, stream);
  }
  if (args.column_sum) run(column_sum_of(args), stream);
}

std::int64_t workspace_bytes(const Attention& args, CudaStream stream) {
  switch (choose(args, stream)) {
    case Implementation::hopper:
      return 0;
    case Implementation::fused:
      return attention_fused_workspace(args.shape, false);
    default:
      return attention_composed_workspace(args.shape, false);
  }
}

std::int64_t workspace_bytes(const AttentionBackward& args, CudaStream stream) {
  const Implementation implementation = choose(args, stream);
  if (implementation == Implementation::hopper) return attention_hopper_workspace(args);
  const std::int64_t bytes = implementation == Implementation::fused
                                 ? attention_fused_workspace(args.shape, true)
                                 : attention_composed_workspace(args.shape, true);
  return args.column_sum ? std::max(bytes, workspace_bytes(column_sum_of(args), stream)) : bytes;
}

}  // namespace lamina::kernels
