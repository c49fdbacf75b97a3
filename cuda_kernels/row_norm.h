// SPDX-License-Identifier: MIT
// The row kernels with an explicit policy: for tests, which force every variant, and for the sweep
// that writes the tuning table. Everything else calls run() of the contracts.
#pragma once

#include "core/kernels/layer_norm.h"
#include "cuda_kernels/tuning/row_policy.h"

#include <cstdint>

namespace lamina::kernels {

/// What the tuning table is asked for these operands.
tuning::RowProblem row_problem(const LayerNorm& args, CudaStream stream);
tuning::RowProblem row_problem(const LayerNormBackward& args, CudaStream stream);

/// run() with that policy. Throws Error when it is not legal for the problem.
void run_with(const tuning::RowPolicy& policy, const LayerNorm& args, CudaStream stream);
void run_with(const tuning::RowPolicy& policy, const LayerNormBackward& args, CudaStream stream);

/// Workspace that run_with() wants for a backward pass.
std::int64_t workspace_bytes(const tuning::RowPolicy& policy, const LayerNormBackward& args,
                             CudaStream stream);

/// Local memory per thread of the policy's kernel, which the sweep takes for spilled registers.
std::int64_t local_bytes(const tuning::RowPolicy& policy, const LayerNorm& args, CudaStream stream);
std::int64_t local_bytes(const tuning::RowPolicy& policy, const LayerNormBackward& args,
                         CudaStream stream);

}  // namespace lamina::kernels
