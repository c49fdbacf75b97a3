// SPDX-License-Identifier: MIT
// Contract: matrix products, the only path to BLAS (CBLAS on the CPU, cuBLASLt on CUDA).
#pragma once

#include "core/kernels/elementwise.h"
#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// For each of `batch` matrices: d = alpha * op(a) op(b) + bias, then the activation; or d += that
/// (not with an activation). op transposes when asked. a and b share a dtype; d has that dtype or
/// f32. Sums of products are kept in f32 (f64 for f64). f32 operands are multiplied exactly unless
/// allow_tf32 is set. On CUDA a 16-bit d is rounded before the bias and the activation where BLAS
/// does not fuse them, and may be before it is added to what is there. What BLAS fuses, and by
/// which algorithm it multiplies, follows from the operands and, with a TimeGemms, from timing: see
/// gemm_plans.h. A fused GELU (tanh form, 16-bit d) is within 2 ulp of bf16 down to x = -4. 16-bit
/// products of up to 8 rows with b transposed may have a kernel of their own, which rounds d once:
/// cuda_kernels/gemm_few_rows.h.
struct Gemm {
  static constexpr std::string_view kName = "gemm";
  Rows a;  // [m, k], or [k, m] when transpose_a, in
  Rows b;  // [k, n], or [n, k] when transpose_b, in
  Rows d;  // [m, n], out
  bool transpose_a = false, transpose_b = false;
  float alpha = 1.0F;
  GradWrite write = GradWrite::overwrite;
  Flat bias{};  // [n], in, may be empty; dtype of a or f32
  bool has_activation = false;
  ActivationKind activation = ActivationKind::gelu_tanh;
  Rows pre_activation{};  // [m, n], dtype of d, out: the value before the activation; empty without
                          // one
  std::int64_t batch = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_d = 0;  // elements between matrices; 0 repeats
  bool allow_tf32 = false;
  Flat workspace{};  // u8, workspace_bytes() long

  std::int64_t k() const { return transpose_a ? a.rows : a.cols; }

  Cost cost() const {
    return {.bytes = batch * (bytes_of(a) + bytes_of(b) + bytes_of(d) + bytes_of(pre_activation)),
            .flops = 2 * batch * d.elements() * k()};
  }
};

void run(const Gemm& args, CpuStream stream);
void run(const Gemm& args, CudaStream stream);
std::int64_t workspace_bytes(const Gemm& args, CpuStream stream);
std::int64_t workspace_bytes(const Gemm& args, CudaStream stream);

}  // namespace lamina::kernels
