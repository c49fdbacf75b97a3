// SPDX-License-Identifier: MIT
// The forward kernels of RMSNorm on CUDA: those of LayerNorm without mean and bias. layer_norm.cu
// launches them.
#include "cuda_kernels/row_norm_forward.cuh"

namespace lamina::kernels::row_norm {

template ForwardPlan plan_forward<Norm::rms>(const RowPolicy&, const LayerNorm&, const RowProblem&);

}  // namespace lamina::kernels::row_norm
