// SPDX-License-Identifier: MIT
// LayerNorm forward on CUDA: one pass over the rows, with the residual addition and dropout fused
// in. See docs/kernels/layer_norm.md.
#include "core/kernels/layer_norm.h"
#include "cuda_kernels/row_norm.cuh"

namespace lamina::kernels {

void run(const LayerNorm& args, CudaStream stream) {
  if (args.x.rows == 0 || args.x.cols == 0) return;
  row_norm::check_extents(LayerNorm::kName, args.x);
  dispatch_cuda_float(args.x.dtype, LayerNorm::kName, [&]<class T>() {
    dispatch_bool(static_cast<bool>(args.residual), [&]<bool kResidual>() {
      row_norm::launch_forward<T, row_norm::Norm::layer, kResidual>(args, stream);
    });
  });
}

}  // namespace lamina::kernels
