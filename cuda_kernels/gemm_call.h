// SPDX-License-Identifier: MIT
// GemmCall: one way of doing a Gemm, a cuBLASLt product that fuses a part of the epilogue and a
// pass of ours for the rest. Row-major operands are read as their column-major transposes, so the
// product is d^T = op(b)^T op(a)^T: b is cuBLASLt's A and a its B. Internal to the CUDA kernels.
#pragma once

#include "cuda_kernels/gemm_problem.h"

#include <cublasLt.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lamina::kernels {

/// What a GemmCall leaves open: cuBLASLt's choice of kernel, tile, pipeline and split of k, and how
/// much workspace it is given, 0 or all of the problem's. Valid for the same problem on the same
/// GPU and version of cuBLASLt, also in another process.
struct GemmAlgorithm {
  cublasLtMatmulAlgo_t choice;
  std::int64_t workspace;  // bytes
};

/// "id 66, tile 23, stages 36, split 1": cuBLASLt's numbers.
std::string text_of(const GemmAlgorithm& algorithm);

/// A way of doing a Gemm.
struct GemmWay {
  GemmFusion fusion;
  int rank;  // of the algorithm in cuBLASLt's list for that fusion; 0 is its first
  GemmAlgorithm algorithm;
};

class GemmCall {
 public:
  /// Of `args`, only what the problem says counts. Throws CudaError.
  GemmCall(const Gemm& args, const GemmProblem& problem, GemmFusion fusion);

  GemmFusion fusion() const { return fusion_; }

  /// Up to `count` algorithms that work, the ones that cuBLASLt expects to be fast first. Where any
  /// does without a workspace, only those that split k have one: others would keep a counter there,
  /// from which thread blocks draw their tiles, and clear it before each product. That is no faster
  /// than tiles shared out ahead, and on an H200 the clearing takes 4 us between two kernels of a
  /// CUDA graph.
  std::vector<GemmAlgorithm> algorithms(cublasLtHandle_t handle, int count) const;

  /// Whether an algorithm from elsewhere is one for this call.
  bool accepts(cublasLtHandle_t handle, const GemmAlgorithm& algorithm) const;

  /// Queues the product and what follows it. Throws CudaError.
  void run(cublasLtHandle_t handle, const GemmAlgorithm& algorithm, const Gemm& args,
           CudaStream stream);

  /// The same; false when cuBLASLt refuses the algorithm.
  bool try_run(cublasLtHandle_t handle, const GemmAlgorithm& algorithm, const Gemm& args,
               CudaStream stream);

 private:
  struct Destroy {
    void operator()(cublasLtMatmulDesc_t handle) const { cublasLtMatmulDescDestroy(handle); }

    void operator()(cublasLtMatrixLayout_t handle) const { cublasLtMatrixLayoutDestroy(handle); }

    void operator()(cublasLtMatmulPreference_t handle) const {
      cublasLtMatmulPreferenceDestroy(handle);
    }
  };

  using Descriptor = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy>;
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy>;
  using Preference = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy>;

  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value);
  template <class Value>
  void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
           Value value) const;
  void check(cublasStatus_t status, std::string_view call) const;
  Layout make_layout(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                     std::int64_t matrix_stride) const;
  Preference make_preference(std::int64_t workspace) const;
  std::vector<GemmAlgorithm> proposals(cublasLtHandle_t handle, int count,
                                       std::int64_t workspace) const;
  void set_epilogue();
  void set_pointers(const Gemm& args);
  bool writes_pre_activation() const;
  cublasStatus_t multiply(cublasLtHandle_t handle, const GemmAlgorithm& algorithm, const Gemm& args,
                          CudaStream stream);

  GemmProblem problem_;
  GemmFusion fusion_;
  Descriptor descriptor_;  // has the pointers of the latest run
  Layout a_, b_, d_;
};

/// Bias and activation of `args`, as far as `fused` has not done them.
void finish_product(const Gemm& args, GemmFusion fused, CudaStream stream);

}  // namespace lamina::kernels
