// SPDX-License-Identifier: MIT
// RMSNorm forward and backward on CUDA: the row kernels of LayerNorm without mean, bias and
// residual. See docs/kernels/layer_norm.md.
#include "core/kernels/rms_norm.h"
#include "cuda_kernels/row_norm_backward.cuh"
#include "cuda_kernels/row_norm_forward.cuh"

namespace lamina::kernels {

using row_norm::Norm;

namespace {

LayerNorm as_layer_norm(const RmsNorm& args) {
  LayerNorm same{};
  same.x = args.x;
  same.weight = args.weight;
  same.y = args.y;
  same.rstd = args.rstd;
  same.eps = args.eps;
  return same;
}

LayerNormBackward as_layer_norm(const RmsNormBackward& args) {
  LayerNormBackward same{};
  same.x = args.x;
  same.dy = args.dy;
  same.weight = args.weight;
  same.rstd = args.rstd;
  same.dx = args.dx;
  same.dweight = args.dweight;
  same.dx_write = args.dx_write;
  same.dweight_write = args.dweight_write;
  same.workspace = args.workspace;
  return same;
}

}  // namespace

tuning::RowProblem row_problem(const RmsNorm& args, CudaStream stream) {
  return row_norm::forward_problem(as_layer_norm(args), RmsNorm::kName, stream);
}

tuning::RowProblem row_problem(const RmsNormBackward& args, CudaStream stream) {
  return row_norm::backward_problem(as_layer_norm(args), RmsNormBackward::kName, stream);
}

void run_with(const tuning::RowPolicy& policy, const RmsNorm& args, CudaStream stream) {
  row_norm::launch_forward<Norm::rms>(policy, as_layer_norm(args), row_problem(args, stream),
                                      RmsNorm::kName, stream);
}

void run(const RmsNorm& args, CudaStream stream) {
  run_with(tuning::forward_policy(row_problem(args, stream)), args, stream);
}

std::int64_t workspace_bytes(const tuning::RowPolicy& policy, const RmsNormBackward& args,
                             CudaStream stream) {
  return row_norm::backward_workspace_bytes(policy, as_layer_norm(args), row_problem(args, stream));
}

std::int64_t workspace_bytes(const RmsNormBackward& args, CudaStream stream) {
  return workspace_bytes(tuning::backward_policy(row_problem(args, stream)), args, stream);
}

void run_with(const tuning::RowPolicy& policy, const RmsNormBackward& args, CudaStream stream) {
  row_norm::launch_backward<Norm::rms>(policy, as_layer_norm(args), row_problem(args, stream),
                                       RmsNormBackward::kName, stream);
}

void run(const RmsNormBackward& args, CudaStream stream) {
  run_with(tuning::backward_policy(row_problem(args, stream)), args, stream);
}

}  // namespace lamina::kernels
