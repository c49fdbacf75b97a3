// SPDX-License-Identifier: MIT
// The kernels of RMSNorm on CUDA: those of LayerNorm without mean and bias. layer_norm.cu and
// layer_norm_backward.cu launch them.
#include "cuda_kernels/row_norm_backward.cuh"
#include "cuda_kernels/row_norm_forward.cuh"

namespace lamina::kernels::row_norm {

template ForwardPlan plan_forward<Norm::rms>(const RowPolicy&, const LayerNorm&, const RowProblem&);
template BackwardPlan plan_backward<Norm::rms>(const RowPolicy&, const LayerNormBackward&,
                                               const RowProblem&);

}  // namespace lamina::kernels::row_norm
