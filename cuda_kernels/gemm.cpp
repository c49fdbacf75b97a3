// SPDX-License-Identifier: MIT
// Matrix products by cuBLASLt. Row-major operands are read as their column-major transposes, so the
// call computes d^T = op(b)^T op(a)^T: b is cuBLASLt's A and a its B.
// A plan (descriptors, layouts, algorithm) is made once per problem and kept for the process; the
// same problem thus runs the same algorithm, and cuBLASLt gives the same bits for it. Problems
// differ by everything that may change the choice, the alignment of the pointers and the workspace
// included.
#include "core/kernels/gemm.h"

#include "core/cuda/check.h"
#include "cuda_kernels/gemm_epilogue.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>

namespace lamina::kernels {
namespace {

constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr std::int64_t kWorkspaceAlignment = 256;                 // bytes, cuBLASLt's requirement
constexpr std::int64_t kMaxAlignment = 16;                        // bytes of the widest load

/// All that decides on a plan, apart from the device.
struct Problem {
  DType dtype, d_dtype;
  bool transpose_a, transpose_b, accumulate, allow_tf32, has_bias;
  std::int64_t m, n, k, batch;
  std::int64_t lda, ldb, ldd;                 // elements
  std::int64_t stride_a, stride_b, stride_d;  // elements
  std::int64_t align_a, align_b, align_d;     // bytes
  std::int64_t workspace;                     // bytes

  auto operator<=>(const Problem&) const = default;
};

std::string text_of(const Problem& problem) {
  const auto stored = [](bool transposed) { return transposed ? "^T" : ""; };
  return cat("a", stored(problem.transpose_a), " b", stored(problem.transpose_b), " with m ",
             problem.m, ", n ", problem.n, ", k ", problem.k, ", batch ", problem.batch, ", dtype ",
             problem.dtype, " to ", problem.d_dtype, ", row strides ", problem.lda, "/",
             problem.ldb, "/", problem.ldd, ", matrix strides ", problem.stride_a, "/",
             problem.stride_b, "/", problem.stride_d, ", alignments ", problem.align_a, "/",
             problem.align_b, "/", problem.align_d, " B, workspace ", problem.workspace, " B");
}

void check(cublasStatus_t status, std::string_view call, const Problem& problem) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(
      cat("gemm: ", call, " returned ", cublasLtGetStatusName(status), " for ", text_of(problem)),
      static_cast<int>(status));
}

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

/// A prepared call. `fused_bias` is false when cuBLASLt has no algorithm with that epilogue.
struct Plan {
  Descriptor descriptor;
  Layout a, b, d;
  cublasLtMatmulAlgo_t algorithm;
  bool fused_bias;
};

template <class Value>
void set(const Descriptor& descriptor, cublasLtMatmulDescAttributes_t attribute, Value value,
         const Problem& problem) {
  check(cublasLtMatmulDescSetAttribute(descriptor.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulDescSetAttribute", problem);
}

template <class Value>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, Value value,
         const Problem& problem) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute", problem);
}

Descriptor make_descriptor(const Problem& problem, const void* bias) {
  const bool tf32 = problem.dtype == DType::f32 && problem.allow_tf32;
  cublasLtMatmulDesc_t handle = nullptr;
  check(cublasLtMatmulDescCreate(&handle, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                                 CUDA_R_32F),
        "cublasLtMatmulDescCreate", problem);
  Descriptor descriptor(handle);
  set(descriptor, CUBLASLT_MATMUL_DESC_TRANSA, problem.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
      problem);
  set(descriptor, CUBLASLT_MATMUL_DESC_TRANSB, problem.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
      problem);
  if (bias) {
    set(descriptor, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS, problem);
    set(descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias, problem);
  }
  return descriptor;
}

/// `rows` x `cols` as stored in row-major order, seen as its column-major transpose.
Layout make_layout(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t stride,
                   std::int64_t matrix_stride, const Problem& problem) {
  cublasLtMatrixLayout_t handle = nullptr;
  check(cublasLtMatrixLayoutCreate(&handle, cuda_type_of(dtype), static_cast<std::uint64_t>(cols),
                                   static_cast<std::uint64_t>(rows), stride),
        "cublasLtMatrixLayoutCreate", problem);
  Layout layout(handle);
  const auto count = static_cast<std::int32_t>(problem.batch);
  check(cublasLtMatrixLayoutSetAttribute(handle, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                         sizeof(count)),
        "cublasLtMatrixLayoutSetAttribute", problem);
  check(cublasLtMatrixLayoutSetAttribute(handle, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                         &matrix_stride, sizeof(matrix_stride)),
        "cublasLtMatrixLayoutSetAttribute", problem);
  return layout;
}

Preference make_preference(const Problem& problem) {
  cublasLtMatmulPreference_t handle = nullptr;
  check(cublasLtMatmulPreferenceCreate(&handle), "cublasLtMatmulPreferenceCreate", problem);
  Preference preference(handle);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      static_cast<std::uint64_t>(problem.workspace), problem);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
      static_cast<std::uint32_t>(problem.align_b), problem);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
      static_cast<std::uint32_t>(problem.align_a), problem);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
      static_cast<std::uint32_t>(problem.align_d), problem);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
      static_cast<std::uint32_t>(problem.align_d), problem);
  // Split-k schemes that keep partial sums in d would round them to 16 bits on the way.
  if (problem.d_dtype != DType::f32) {
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), problem);
  }
  return preference;
}

/// The algorithm that a plan keeps: the heuristic's first candidate that fits the workspace, or
/// none.
std::optional<cublasLtMatmulAlgo_t> choose_algorithm(cublasLtHandle_t handle, const Plan& plan,
                                                     const Problem& problem) {
  constexpr int kCandidates = 8;
  cublasLtMatmulHeuristicResult_t results[kCandidates] = {};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, plan.descriptor.get(), plan.b.get(), plan.a.get(), plan.d.get(), plan.d.get(),
      make_preference(problem).get(), kCandidates, results, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return std::nullopt;
  check(status, "cublasLtMatmulAlgoGetHeuristic", problem);
  for (int i = 0; i < found; ++i) {
    if (results[i].state == CUBLAS_STATUS_SUCCESS &&
        results[i].workspaceSize <= static_cast<std::size_t>(problem.workspace)) {
      return results[i].algo;
    }
  }
  return std::nullopt;
}

Plan make_plan(cublasLtHandle_t handle, const Problem& problem, const void* bias) {
  const bool ta = problem.transpose_a, tb = problem.transpose_b;
  Plan plan;
  plan.a = make_layout(problem.dtype, ta ? problem.k : problem.m, ta ? problem.m : problem.k,
                       problem.lda, problem.stride_a, problem);
  plan.b = make_layout(problem.dtype, tb ? problem.n : problem.k, tb ? problem.k : problem.n,
                       problem.ldb, problem.stride_b, problem);
  plan.d =
      make_layout(problem.d_dtype, problem.m, problem.n, problem.ldd, problem.stride_d, problem);
  for (const bool fused_bias : {true, false}) {
    if (fused_bias && !bias) continue;
    plan.descriptor = make_descriptor(problem, fused_bias ? bias : nullptr);
    if (const auto algorithm = choose_algorithm(handle, plan, problem)) {
      plan.algorithm = *algorithm;
      plan.fused_bias = fused_bias;
      return plan;
    }
  }
  throw Error(cat("gemm: cuBLASLt has no algorithm for ", text_of(problem),
                  ", expected at least one; align rows to 16 B or pass a larger workspace"));
}

/// The cuBLASLt handle and the plans of one device.
struct Planner {
  std::mutex mutex;  // of everything below, and of the bias pointers inside the plans
  cublasLtHandle_t handle = nullptr;
  std::map<Problem, Plan> plans;
};

Planner& planner_of(int device) {
  static std::mutex mutex;
  // Never destroyed: the driver may be gone before static destructors run.
  static auto& planners = *new std::map<int, Planner>;
  const std::scoped_lock lock(mutex);
  return planners[device];
}

/// The largest power of two, up to 16, that divides the address and the offsets of all matrices.
std::int64_t alignment_of(const Rows& view, std::int64_t matrix_stride) {
  const auto bits = std::bit_cast<std::uintptr_t>(view.data) |
                    (static_cast<std::uintptr_t>(matrix_stride) * size_of(view.dtype)) |
                    static_cast<std::uintptr_t>(kMaxAlignment);
  return std::int64_t{1} << std::countr_zero(bits);
}

/// True when cuBLASLt may add the bias: it takes only the dtype of d, and vectors start on 16
/// bytes.
bool fits_epilogue(const Gemm& args) {
  return args.bias && !args.has_activation && args.bias.dtype == args.d.dtype &&
         args.a.dtype == args.d.dtype &&
         std::bit_cast<std::uintptr_t>(args.bias.data) % kMaxAlignment == 0;
}

struct Workspace {
  void* data;
  std::int64_t bytes;
};

/// The part of the caller's workspace that is aligned as cuBLASLt needs it.
Workspace aligned_workspace(const Flat& workspace) {
  auto room = static_cast<std::size_t>(workspace.data ? bytes_of(workspace) : 0);
  void* data = workspace.data;
  if (room == 0 || !std::align(kWorkspaceAlignment, 1, data, room)) return {nullptr, 0};
  return {data, static_cast<std::int64_t>(room)};
}

/// product = alpha * op(a) op(b), or += that; plus the bias if the result is true.
bool multiply(const Gemm& args, const Rows& product, const void* bias, CudaStream stream) {
  const auto leading = [](const Rows& view) { return std::max(view.stride, view.cols); };
  const Workspace workspace = aligned_workspace(args.workspace);
  const Problem problem{.dtype = args.a.dtype,
                        .d_dtype = product.dtype,
                        .transpose_a = args.transpose_a,
                        .transpose_b = args.transpose_b,
                        .accumulate = args.write == GradWrite::accumulate,
                        .allow_tf32 = args.allow_tf32,
                        .has_bias = bias != nullptr,
                        .m = product.rows,
                        .n = product.cols,
                        .k = args.k(),
                        .batch = args.batch,
                        .lda = leading(args.a),
                        .ldb = leading(args.b),
                        .ldd = leading(product),
                        .stride_a = args.stride_a,
                        .stride_b = args.stride_b,
                        .stride_d = args.stride_d,
                        .align_a = alignment_of(args.a, args.stride_a),
                        .align_b = alignment_of(args.b, args.stride_b),
                        .align_d = alignment_of(product, args.stride_d),
                        .workspace = workspace.bytes};
  Planner& planner = planner_of(stream.device);
  const std::scoped_lock lock(planner.mutex);
  if (!planner.handle) check(cublasLtCreate(&planner.handle), "cublasLtCreate", problem);
  auto entry = planner.plans.find(problem);
  if (entry == planner.plans.end()) {
    entry = planner.plans.emplace(problem, make_plan(planner.handle, problem, bias)).first;
  }
  const Plan& plan = entry->second;
  if (plan.fused_bias) set(plan.descriptor, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias, problem);
  const float beta = problem.accumulate ? 1.0F : 0.0F;
  check(cublasLtMatmul(planner.handle, plan.descriptor.get(), &args.alpha, args.b.data,
                       plan.b.get(), args.a.data, plan.a.get(), &beta, product.data, plan.d.get(),
                       product.data, plan.d.get(), &plan.algorithm, workspace.data,
                       static_cast<std::size_t>(workspace.bytes), stream.handle),
        "cublasLtMatmul", problem);
  return plan.fused_bias;
}

/// A product over no elements: zero, or nothing to add.
void clear(const Gemm& args, const Rows& product, CudaStream stream) {
  if (args.write == GradWrite::accumulate) return;
  const std::size_t element = size_of(product.dtype);
  for (std::int64_t i = 0; i < args.batch; ++i) {
    LAMINA_CUDA_CHECK(cudaMemset2DAsync(
        product.as<std::byte>() + static_cast<std::size_t>(i * args.stride_d) * element,
        static_cast<std::size_t>(std::max(product.stride, product.cols)) * element, 0,
        static_cast<std::size_t>(product.cols) * element, static_cast<std::size_t>(product.rows),
        stream.handle));
  }
}

}  // namespace

void run(const Gemm& args, CudaStream stream) {
  if (args.write == GradWrite::skip || args.d.elements() == 0 || args.batch == 0) return;
  // One pass of ours serves every activation, bias dtype and d; cuBLASLt fuses only the tanh GELU,
  // at 163 us instead of 111 us for a plain [16384, 768] x [768, 3072] bf16 product (H200). The
  // product lands where the pre-activation goes.
  const Rows& product = args.has_activation && args.pre_activation ? args.pre_activation : args.d;
  bool bias_added = false;
  if (args.k() == 0) {
    clear(args, product, stream);
  } else {
    bias_added = multiply(args, product, fits_epilogue(args) ? args.bias.data : nullptr, stream);
  }
  const bool bias_missing = args.bias && !bias_added;
  if (!bias_missing && !args.has_activation) return;
  run(GemmEpilogue{.product = product,
                   .bias = args.bias,
                   .pre_activation = args.pre_activation,
                   .d = args.d,
                   .has_activation = args.has_activation,
                   .activation = args.activation,
                   .batch = args.batch,
                   .stride = args.stride_d},
      stream);
}

std::int64_t workspace_bytes(const Gemm& /*args*/, CudaStream /*stream*/) {
  return kWorkspaceBytes;
}

}  // namespace lamina::kernels
