// SPDX-License-Identifier: MIT
// LayerNorm backward on CUDA: dx, the gradient of the residual stream, dropout's mask and the sums
// over rows in one pass over x and dy, then a small kernel that adds partial sums. See
// docs/kernels/layer_norm.md.
#include "core/kernels/layer_norm.h"
#include "cuda_kernels/row_norm_backward.cuh"

namespace lamina::kernels {

void run(const LayerNormBackward& args, CudaStream stream) {
  row_norm::launch_backward<row_norm::Norm::layer>(args, LayerNormBackward::kName, stream);
}

std::int64_t workspace_bytes(const LayerNormBackward& args, CudaStream stream) {
  return row_norm::backward_workspace_bytes(args, stream);
}

}  // namespace lamina::kernels
