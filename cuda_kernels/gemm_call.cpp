// SPDX-License-Identifier: MIT
#include "cuda_kernels/gemm_call.h"

#include "core/error.h"
#include "core/text.h"
#include "cuda_kernels/gemm_epilogue.h"

#include <algorithm>

namespace lamina::kernels {
namespace {

cudaDataType_t cuda_type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      throw DTypeError(
          cat("gemm: dtype is ", dtype, ", expected f32, f16 or bf16 (what CUDA multiplies)"));
  }
}

cublasLtEpilogue_t epilogue_of(const GemmProblem& problem, GemmFusion fusion) {
  if (fusion == GemmFusion::none) return CUBLASLT_EPILOGUE_DEFAULT;
  if (fusion == GemmFusion::bias) return CUBLASLT_EPILOGUE_BIAS;
  if (problem.keeps_pre_activation()) {
    return problem.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
  }
  return problem.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
}

std::int32_t number_of(const GemmAlgorithm& algorithm,
                       cublasLtMatmulAlgoConfigAttributes_t attribute) {
  std::int32_t value = -1;
  std::size_t written = 0;
  cublasLtMatmulAlgoConfigGetAttribute(&algorithm.choice, attribute, &value, sizeof(value),
                                       &written);
  return value;
}

bool splits(const GemmAlgorithm& algorithm) {
  return number_of(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) > 1;
}

}  // namespace

std::string text_of(const GemmAlgorithm& algorithm) {
  return cat("id ", number_of(algorithm, CUBLASLT_ALGO_CONFIG_ID), ", tile ",
             number_of(algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID), ", stages ",
             number_of(algorithm, CUBLASLT_ALGO_CONFIG_STAGES_ID), ", split ",
             number_of(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM));
}

GemmCall::GemmCall(const Gemm& args, const GemmProblem& problem, GemmFusion fusion)
    : problem_(problem), fusion_(fusion) {
  const bool ta = problem.transpose_a, tb = problem.transpose_b;
  const bool tf32 = problem.dtype == DType::f32 && problem.allow_tf32;
  const bool to_pre_activation = writes_pre_activation();
  a_ = make_layout(problem.dtype, ta ? problem.k : problem.m, ta ? problem.m : problem.k,
                   problem.lda, problem.stride_a);
  b_ = make_layout(problem.dtype, tb ? problem.n : problem.k, tb ? problem.k : problem.n,
                   problem.ldb, problem.stride_b);
  d_ = make_layout(problem.d_dtype, problem.m, problem.n,
                   to_pre_activation ? problem.ldp : problem.ldd, problem.stride_d);
  cublasLtMatmulDesc_t handle = nullptr;
  check(cublasLtMatmulDescCreate(&handle, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                                 CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  descriptor_.reset(handle);
  set(CUBLASLT_MATMUL_DESC_TRANSA, tb ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, ta ? CUBLAS_OP_T : CUBLAS_OP_N);
  set_epilogue();
  set_pointers(args);  // their alignment counts in the choice of an algorithm
}

std::vector<GemmAlgorithm> GemmCall::algorithms(cublasLtHandle_t handle, int count) const {
  const std::vector<GemmAlgorithm> without = proposals(handle, count, 0);
  std::vector<GemmAlgorithm> with = proposals(handle, count, problem_.workspace);
  if (without.empty()) return with;
  const bool is_split_first = !with.empty() && splits(with.front());
  std::erase_if(with, [](const GemmAlgorithm& algorithm) { return !splits(algorithm); });
  const std::vector<GemmAlgorithm>& first = is_split_first ? with : without;
  const std::vector<GemmAlgorithm>& second = is_split_first ? without : with;
  std::vector<GemmAlgorithm> algorithms;  // by turns
  for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    if (i < first.size()) algorithms.push_back(first[i]);
    if (i < second.size()) algorithms.push_back(second[i]);
  }
  if (algorithms.size() > static_cast<std::size_t>(count))
    algorithms.resize(static_cast<std::size_t>(count));
  return algorithms;
}

std::vector<GemmAlgorithm> GemmCall::proposals(cublasLtHandle_t handle, int count,
                                               std::int64_t workspace) const {
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<std::size_t>(count));
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, descriptor_.get(), b_.get(), a_.get(), d_.get(), d_.get(),
      make_preference(workspace).get(), count, results.data(), &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  results.resize(static_cast<std::size_t>(found));
  std::vector<GemmAlgorithm> algorithms;
  for (const cublasLtMatmulHeuristicResult_t& result : results) {
    if (result.state == CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize <= static_cast<std::size_t>(workspace)) {
      algorithms.push_back({result.algo, workspace});
    }
  }
  return algorithms;
}

// The workspace that the check asks for does not count: in CUDA 13 it is more than none for
// algorithms that were proposed for none and run with none.
bool GemmCall::accepts(cublasLtHandle_t handle, const GemmAlgorithm& algorithm) const {
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(handle, descriptor_.get(), b_.get(), a_.get(), d_.get(), d_.get(),
                                 &algorithm.choice, &result) == CUBLAS_STATUS_SUCCESS &&
         algorithm.workspace <= problem_.workspace;
}

void GemmCall::run(cublasLtHandle_t handle, const GemmAlgorithm& algorithm, const Gemm& args,
                   CudaStream stream) {
  check(multiply(handle, algorithm, args, stream), "cublasLtMatmul");
  finish_product(args, fusion_, stream);
}

bool GemmCall::try_run(cublasLtHandle_t handle, const GemmAlgorithm& algorithm, const Gemm& args,
                       CudaStream stream) {
  if (multiply(handle, algorithm, args, stream) != CUBLAS_STATUS_SUCCESS) return false;
  finish_product(args, fusion_, stream);
  return true;
}

cublasStatus_t GemmCall::multiply(cublasLtHandle_t handle, const GemmAlgorithm& algorithm,
                                  const Gemm& args, CudaStream stream) {
  set_pointers(args);
  const float beta = problem_.accumulate ? 1.0F : 0.0F;
  void* const product = writes_pre_activation() ? args.pre_activation.data : args.d.data;
  return cublasLtMatmul(handle, descriptor_.get(), &args.alpha, args.b.data, b_.get(), args.a.data,
                        a_.get(), &beta, product, d_.get(), product, d_.get(), &algorithm.choice,
                        aligned_workspace(args.workspace).data,
                        static_cast<std::size_t>(algorithm.workspace), stream.handle);
}

/// A product that our own pass activates lands where the pre-activation goes.
bool GemmCall::writes_pre_activation() const {
  return problem_.keeps_pre_activation() && fusion_ != GemmFusion::gelu;
}

void GemmCall::set_epilogue() {
  if (fusion_ == GemmFusion::none) return;
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(problem_, fusion_));
  if (fusion_ == GemmFusion::gelu && problem_.keeps_pre_activation()) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, problem_.ldp);
  }
}

void GemmCall::set_pointers(const Gemm& args) {
  if (fusion_ == GemmFusion::none) return;
  if (problem_.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias.data);
  if (fusion_ == GemmFusion::gelu && problem_.keeps_pre_activation()) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, args.pre_activation.data);
  }
}

/// `rows` x `cols` as stored in row-major order, seen as its column-major transpose.
GemmCall::Layout GemmCall::make_layout(DType dtype, std::int64_t rows, std::int64_t cols,
                                       std::int64_t stride, std::int64_t matrix_stride) const {
  cublasLtMatrixLayout_t handle = nullptr;
  check(cublasLtMatrixLayoutCreate(&handle, cuda_type_of(dtype), static_cast<std::uint64_t>(cols),
                                   static_cast<std::uint64_t>(rows), stride),
        "cublasLtMatrixLayoutCreate");
  Layout layout(handle);
  const auto count = static_cast<std::int32_t>(problem_.batch);
  check(cublasLtMatrixLayoutSetAttribute(handle, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                         sizeof(count)),
        "cublasLtMatrixLayoutSetAttribute");
  check(cublasLtMatrixLayoutSetAttribute(handle, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                         &matrix_stride, sizeof(matrix_stride)),
        "cublasLtMatrixLayoutSetAttribute");
  return layout;
}

GemmCall::Preference GemmCall::make_preference(std::int64_t workspace) const {
  cublasLtMatmulPreference_t handle = nullptr;
  check(cublasLtMatmulPreferenceCreate(&handle), "cublasLtMatmulPreferenceCreate");
  Preference preference(handle);
  const auto bytes = [](std::int64_t count) { return static_cast<std::uint32_t>(count); };
  const std::int64_t align_d = writes_pre_activation() ? problem_.align_p : problem_.align_d;
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, bytes(problem_.align_b));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, bytes(problem_.align_a));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, bytes(align_d));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, bytes(align_d));
  // Split-k schemes that keep partial sums in d would round them to 16 bits on the way.
  if (problem_.d_dtype != DType::f32) {
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  }
  return preference;
}

template <class Value>
void GemmCall::set(cublasLtMatmulDescAttributes_t attribute, Value value) {
  check(cublasLtMatmulDescSetAttribute(descriptor_.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulDescSetAttribute");
}

template <class Value>
void GemmCall::set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
                   Value value) const {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute");
}

void GemmCall::check(cublasStatus_t status, std::string_view call) const {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(
      cat("gemm: ", call, " returned ", cublasLtGetStatusName(status), " for ", text_of(problem_)),
      static_cast<int>(status));
}

void finish_product(const Gemm& args, GemmFusion fused, CudaStream stream) {
  if (fused == GemmFusion::gelu) return;
  const bool bias_missing = args.bias && fused == GemmFusion::none;
  if (!bias_missing && !args.has_activation) return;
  run(GemmEpilogue{.product =
                       args.has_activation && args.pre_activation ? args.pre_activation : args.d,
                   .bias = bias_missing ? args.bias : Flat{},
                   .pre_activation = args.pre_activation,
                   .d = args.d,
                   .has_activation = args.has_activation,
                   .activation = args.activation,
                   .batch = args.batch,
                   .stride = args.stride_d},
      stream);
}

}  // namespace lamina::kernels
