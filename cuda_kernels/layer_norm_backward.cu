// SPDX-License-Identifier: MIT
// LayerNorm backward on CUDA: dx, the gradient of the residual stream, dropout's mask and the sums
// over rows in one pass over x and dy, then a small kernel that adds partial sums. See
// docs/kernels/layer_norm.md.
#include "core/kernels/layer_norm.h"
#include "cuda_kernels/row_norm_backward.cuh"

namespace lamina::kernels {

using row_norm::Norm;

tuning::RowProblem row_problem(const LayerNormBackward& args, CudaStream stream) {
  return row_norm::backward_problem(args, LayerNormBackward::kName, stream);
}

std::int64_t workspace_bytes(const tuning::RowPolicy& policy, const LayerNormBackward& args,
                             CudaStream stream) {
  return row_norm::backward_workspace_bytes(policy, args, row_problem(args, stream));
}

std::int64_t workspace_bytes(const LayerNormBackward& args, CudaStream stream) {
  return workspace_bytes(tuning::backward_policy(row_problem(args, stream)), args, stream);
}

void run_with(const tuning::RowPolicy& policy, const LayerNormBackward& args, CudaStream stream) {
  row_norm::launch_backward<Norm::layer>(policy, args, row_problem(args, stream),
                                         LayerNormBackward::kName, stream);
}

void run(const LayerNormBackward& args, CudaStream stream) {
  run_with(tuning::backward_policy(row_problem(args, stream)), args, stream);
}

std::int64_t local_bytes(const tuning::RowPolicy& policy, const LayerNormBackward& args,
                         CudaStream stream) {
  return row_norm::local_bytes(row_norm::plan_backward<Norm::layer>(policy, args,
                                                                    row_problem(args, stream),
                                                                    LayerNormBackward::kName)
                                   .kernel);
}

}  // namespace lamina::kernels
