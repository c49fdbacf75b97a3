// SPDX-License-Identifier: MIT
// GemmProblem: all that may change which way of doing a Gemm is the best. Internal to the CUDA
// kernels.
#pragma once

#include "core/kernels/gemm.h"

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::kernels {

/// What cuBLASLt does after the product. The rest is left to GemmEpilogue.
enum class GemmFusion : std::uint8_t {
  none,
  bias,
  gelu,  // with the bias, if there is one, and the pre-activation, if it is kept
};

std::string_view name_of(GemmFusion fusion);

struct GemmProblem {
  DType dtype, d_dtype;
  bool transpose_a, transpose_b, accumulate, allow_tf32;
  std::int64_t m, n, k, batch;
  std::int64_t lda, ldb, ldd, ldp;                              // elements; p is the pre-activation
  std::int64_t stride_a, stride_b, stride_d;                    // elements
  std::int64_t align_a, align_b, align_d, align_p, align_bias;  // bytes; 0 without the operand
  std::optional<DType> bias;
  std::optional<ActivationKind> activation;
  std::int64_t workspace;  // bytes

  auto operator<=>(const GemmProblem&) const = default;

  bool keeps_pre_activation() const { return align_p > 0; }

  std::int64_t flops() const { return 2 * batch * m * n * k; }
};

GemmProblem problem_of(const Gemm& args);

/// One line that says all of it: for messages, and the key of a stored plan.
std::string text_of(const GemmProblem& problem);

/// "gelu_tanh + bias", "-": what follows the product.
std::string epilogue_text(const GemmProblem& problem);

/// What may be fused, the usual choice first. Fused activations are offered only when the result is
/// timed against ours: they are not always faster.
std::vector<GemmFusion> fusions_of(const GemmProblem& problem, bool timed);

struct GemmWorkspace {
  void* data;
  std::int64_t bytes;
};

/// The part of the caller's workspace that is aligned as cuBLASLt needs it.
GemmWorkspace aligned_workspace(const Flat& workspace);

}  // namespace lamina::kernels
