// SPDX-License-Identifier: MIT
// Forward pass of LayerNorm and RMSNorm on CUDA: one pass over the rows, with the residual addition
// and dropout fused in. The kernels of RMSNorm are in rms_norm.cu. See docs/kernels/layer_norm.md.
#include "core/kernels/layer_norm.h"
#include "cuda_kernels/row_norm_forward.cuh"

namespace lamina::kernels {
namespace row_norm {

extern template ForwardPlan plan_forward<Norm::rms>(const RowPolicy&, const LayerNorm&,
                                                    const RowProblem&);

namespace {

ForwardPlan plan_of(const RowPolicy& policy, const LayerNorm& args, const RowProblem& problem) {
  return args.norm == Norm::layer ? plan_forward<Norm::layer>(policy, args, problem)
                                  : plan_forward<Norm::rms>(policy, args, problem);
}

}  // namespace
}  // namespace row_norm

tuning::RowProblem row_problem(const LayerNorm& args, CudaStream stream) {
  return row_norm::forward_problem(args, stream);
}

void run_with(const tuning::RowPolicy& policy, const LayerNorm& args, CudaStream stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  const tuning::RowProblem problem = row_problem(args, stream);
  const row_norm::ForwardPlan plan = row_norm::plan_of(policy, args, problem);
  row_norm::prepare_kernel(reinterpret_cast<const void*>(plan.kernel), plan.shape.shared_bytes,
                           problem.sm);
  launch_kernel(plan.kernel, plan.shape, stream, args, device::DropMask(args.drop_p, args.key),
                {.inverse = 1.0F / static_cast<float>(args.x.cols),
                 .eps = static_cast<float>(args.eps),
                 .stages = policy.stages,
                 .rows_ahead = row_norm::rows_ahead(policy, problem)});
}

void run(const LayerNorm& args, CudaStream stream) {
  run_with(tuning::forward_policy(row_problem(args, stream)), args, stream);
}

std::int64_t local_bytes(const tuning::RowPolicy& policy, const LayerNorm& args,
                         CudaStream stream) {
  return row_norm::local_bytes(row_norm::plan_of(policy, args, row_problem(args, stream)).kernel);
}

}  // namespace lamina::kernels
