// SPDX-License-Identifier: MIT
#include "cuda_kernels/gemm_problem.h"

#include "core/text.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <memory>

namespace lamina::kernels {
namespace {

constexpr std::int64_t kMaxAlignment = 16;        // bytes of the widest load
constexpr std::size_t kWorkspaceAlignment = 256;  // bytes, cuBLASLt's requirement
constexpr std::int64_t kAuxiliaryMultiple = 8;    // elements, of the rows of a pre-activation

/// The largest power of two, up to 16, that divides the address and the offsets of all matrices; 0
/// for an empty view.
std::int64_t alignment_of(const void* data, std::int64_t matrix_stride, DType dtype) {
  if (data == nullptr) return 0;
  const auto bits = std::bit_cast<std::uintptr_t>(data) |
                    (static_cast<std::uintptr_t>(matrix_stride) * size_of(dtype)) |
                    static_cast<std::uintptr_t>(kMaxAlignment);
  return std::int64_t{1} << std::countr_zero(bits);
}

std::string_view name_of(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::relu:
      return "relu";
    case ActivationKind::gelu_tanh:
      return "gelu_tanh";
    case ActivationKind::gelu_erf:
      return "gelu_erf";
    case ActivationKind::silu:
      return "silu";
  }
  return "";
}

/// cuBLASLt adds a bias of the dtype of d only; vectors start on 16 bytes.
bool can_fuse_bias(const GemmProblem& problem) {
  return problem.bias == problem.d_dtype && problem.dtype == problem.d_dtype &&
         problem.align_bias == kMaxAlignment;
}

/// cuBLASLt has the tanh form, whose error is small beside the rounding of a 16-bit result, not of
/// f32.
bool can_fuse_gelu(const GemmProblem& problem) {
  const bool pre_activation_fits =
      !problem.keeps_pre_activation() ||
      (problem.ldp % kAuxiliaryMultiple == 0 && problem.align_p == kMaxAlignment);
  return problem.activation == ActivationKind::gelu_tanh && problem.d_dtype != DType::f32 &&
         problem.batch == 1 && pre_activation_fits && (!problem.bias || can_fuse_bias(problem));
}

}  // namespace

std::string_view name_of(GemmFusion fusion) {
  switch (fusion) {
    case GemmFusion::none:
      return "none";
    case GemmFusion::bias:
      return "bias";
    case GemmFusion::gelu:
      return "gelu";
  }
  return "";
}

GemmProblem problem_of(const Gemm& args) {
  const auto leading = [](const Rows& view) {
    return view ? std::max(view.stride, view.cols) : std::int64_t{0};
  };
  const Rows pre_activation = args.has_activation ? args.pre_activation : Rows{};
  GemmProblem problem{.dtype = args.a.dtype,
                      .d_dtype = args.d.dtype,
                      .transpose_a = args.transpose_a,
                      .transpose_b = args.transpose_b,
                      .accumulate = args.write == GradWrite::accumulate,
                      .allow_tf32 = args.allow_tf32 && args.a.dtype == DType::f32,
                      .m = args.d.rows,
                      .n = args.d.cols,
                      .k = args.k(),
                      .batch = args.batch,
                      .lda = leading(args.a),
                      .ldb = leading(args.b),
                      .ldd = leading(args.d),
                      .ldp = leading(pre_activation),
                      .stride_a = args.stride_a,
                      .stride_b = args.stride_b,
                      .stride_d = args.stride_d,
                      .align_a = alignment_of(args.a.data, args.stride_a, args.a.dtype),
                      .align_b = alignment_of(args.b.data, args.stride_b, args.b.dtype),
                      .align_d = alignment_of(args.d.data, args.stride_d, args.d.dtype),
                      .align_p = alignment_of(pre_activation.data, args.stride_d, args.d.dtype),
                      .align_bias = alignment_of(args.bias.data, 0, args.bias.dtype),
                      .bias = {},
                      .activation = {},
                      .workspace = aligned_workspace(args.workspace).bytes};
  if (args.bias) problem.bias = args.bias.dtype;
  if (args.has_activation) problem.activation = args.activation;
  return problem;
}

std::string epilogue_text(const GemmProblem& problem) {
  std::string text = problem.bias ? cat("bias ", *problem.bias) : "";
  if (problem.activation) text += cat(text.empty() ? "" : ", ", name_of(*problem.activation));
  if (problem.keeps_pre_activation()) text += " kept";
  if (problem.accumulate) text += cat(text.empty() ? "" : ", ", "added");
  return text.empty() ? "-" : text;
}

std::string text_of(const GemmProblem& problem) {
  const auto stored = [](bool transposed) { return transposed ? "^T" : ""; };
  return cat("a", stored(problem.transpose_a), " b", stored(problem.transpose_b), " with m ",
             problem.m, ", n ", problem.n, ", k ", problem.k, ", batch ", problem.batch, ", dtype ",
             problem.dtype, " to ", problem.d_dtype, problem.allow_tf32 ? " by tf32" : "",
             ", epilogue ", epilogue_text(problem), ", row strides ", problem.lda, "/", problem.ldb,
             "/", problem.ldd, "/", problem.ldp, ", matrix strides ", problem.stride_a, "/",
             problem.stride_b, "/", problem.stride_d, ", alignments ", problem.align_a, "/",
             problem.align_b, "/", problem.align_d, "/", problem.align_p, "/", problem.align_bias,
             " B, workspace ", problem.workspace, " B");
}

std::vector<GemmFusion> fusions_of(const GemmProblem& problem, bool timed) {
  const bool bias = can_fuse_bias(problem);
  if (!problem.activation) {
    return bias ? std::vector{GemmFusion::bias, GemmFusion::none} : std::vector{GemmFusion::none};
  }
  std::vector<GemmFusion> fusions{GemmFusion::none};
  if (timed && bias) fusions.push_back(GemmFusion::bias);
  if (timed && can_fuse_gelu(problem)) fusions.push_back(GemmFusion::gelu);
  return fusions;
}

GemmWorkspace aligned_workspace(const Flat& workspace) {
  auto room = static_cast<std::size_t>(workspace.data ? bytes_of(workspace) : 0);
  void* data = workspace.data;
  if (room == 0 || !std::align(kWorkspaceAlignment, 1, data, room)) return {nullptr, 0};
  return {data, static_cast<std::int64_t>(room)};
}

}  // namespace lamina::kernels
