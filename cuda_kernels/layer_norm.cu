// SPDX-License-Identifier: MIT
// LayerNorm forward on CUDA: one pass over the rows, with the residual addition and dropout fused
// in. See docs/kernels/layer_norm.md.
#include "core/kernels/layer_norm.h"
#include "cuda_kernels/row_norm_forward.cuh"

namespace lamina::kernels {

using row_norm::Norm;

tuning::RowProblem row_problem(const LayerNorm& args, CudaStream stream) {
  return row_norm::forward_problem(args, LayerNorm::kName, stream);
}

void run_with(const tuning::RowPolicy& policy, const LayerNorm& args, CudaStream stream) {
  row_norm::launch_forward<Norm::layer>(policy, args, row_problem(args, stream), LayerNorm::kName,
                                        stream);
}

void run(const LayerNorm& args, CudaStream stream) {
  run_with(tuning::forward_policy(row_problem(args, stream)), args, stream);
}

std::int64_t local_bytes(const tuning::RowPolicy& policy, const LayerNorm& args,
                         CudaStream stream) {
  return row_norm::local_bytes(
      row_norm::plan_forward<Norm::layer>(policy, args, row_problem(args, stream), LayerNorm::kName)
          .kernel);
}

}  // namespace lamina::kernels
