// SPDX-License-Identifier: MIT
// The backward kernels of RMSNorm on CUDA: those of LayerNorm without mean and bias.
// layer_norm_backward.cu launches them.
#include "cuda_kernels/row_norm_backward.cuh"

namespace lamina::kernels::row_norm {

template BackwardPlan plan_backward<Norm::rms>(const RowPolicy&, const LayerNormBackward&,
                                               const RowProblem&);

}  // namespace lamina::kernels::row_norm
