// SPDX-License-Identifier: MIT
// RMSNorm forward and backward on CUDA: the row kernels of LayerNorm without mean, bias and
// residual. See docs/kernels/layer_norm.md.
#include "core/kernels/rms_norm.h"
#include "cuda_kernels/row_norm_backward.cuh"

namespace lamina::kernels {
namespace {

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

void run(const RmsNorm& args, CudaStream stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  row_norm::check_extents(RmsNorm::kName, args.x);
  LayerNorm same{};
  same.x = args.x;
  same.weight = args.weight;
  same.y = args.y;
  same.rstd = args.rstd;
  same.eps = args.eps;
  dispatch_cuda_float(args.x.dtype, RmsNorm::kName, [&]<class T>() {
    row_norm::launch_forward<T, row_norm::Norm::rms, false>(same, stream);
  });
}

void run(const RmsNormBackward& args, CudaStream stream) {
  row_norm::launch_backward<row_norm::Norm::rms>(as_layer_norm(args), RmsNormBackward::kName,
                                                 stream);
}

std::int64_t workspace_bytes(const RmsNormBackward& args, CudaStream stream) {
  return row_norm::backward_workspace_bytes(as_layer_norm(args), stream);
}

}  // namespace lamina::kernels
