// SPDX-License-Identifier: MIT
// Matrix products by cuBLASLt, each by the plan of its problem (gemm_plans.h): problems differ by
// everything that may change the choice, the alignment of the pointers and the workspace included.
// Those of few rows have a kernel of ours.
#include "core/kernels/gemm.h"

#include "core/cuda/check.h"
#include "cuda_kernels/gemm_few_rows.h"
#include "cuda_kernels/gemm_plans.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>

namespace lamina::kernels {
namespace {

constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;  // what NVIDIA advises for Hopper

/// A product over no elements: zero, or nothing to add; with its epilogue.
void finish_nothing(const Gemm& args, CudaStream stream) {
  const Rows& product = args.has_activation && args.pre_activation ? args.pre_activation : args.d;
  if (args.write == GradWrite::overwrite) {
    const std::size_t element = size_of(product.dtype);
    for (std::int64_t i = 0; i < args.batch; ++i) {
      LAMINA_CUDA_CHECK(cudaMemset2DAsync(
          product.as<std::byte>() + static_cast<std::size_t>(i * args.stride_d) * element,
          static_cast<std::size_t>(std::max(product.stride, product.cols)) * element, 0,
          static_cast<std::size_t>(product.cols) * element, static_cast<std::size_t>(product.rows),
          stream.handle));
    }
  }
  finish_product(args, GemmFusion::none, stream);
}

}  // namespace

void run(const Gemm& args, CudaStream stream) {
  if (args.write == GradWrite::skip || args.d.elements() == 0 || args.batch == 0) return;
  if (args.k() == 0) return finish_nothing(args, stream);
  if (has_few_rows(args)) return run_few_rows(args, stream);
  gemm_plans_of(stream.device).run(args, stream);
}

std::int64_t workspace_bytes(const Gemm& /*args*/, CudaStream /*stream*/) {
  return kWorkspaceBytes;
}

}  // namespace lamina::kernels
