// SPDX-License-Identifier: MIT
// Times the ways of doing a Gemm on the device. Internal to the CUDA kernels.
#pragma once

#include "cuda_kernels/gemm_call.h"

#include <optional>

namespace lamina::kernels {

/// The way that was chosen, and how long it takes.
struct GemmChoice {
  GemmWay way;
  double us, first_us;  // of this way, and of the first fusion with cuBLASLt's first algorithm
};

/// Runs what cuBLASLt proposes for the problem of `args`, for each fusion that is possible, on
/// operands of its own, and takes the fastest: the first one unless another is 2 % faster. Waits
/// for the stream. Nothing when there is no memory for the operands, or no algorithm. Throws
/// CudaError.
std::optional<GemmChoice> time_gemm(cublasLtHandle_t handle, const Gemm& args,
                                    const GemmProblem& problem, CudaStream stream);

}  // namespace lamina::kernels
