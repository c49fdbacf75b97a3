// SPDX-License-Identifier: MIT
// Contracts: RMSNorm forward and backward.
// Zhang, Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// y = x * rstd * weight, row by row; rstd = 1 / sqrt(mean(x^2) + eps). x and y share a dtype;
/// weight has that one or f32.
struct RmsNorm {
  static constexpr std::string_view kName = "rms_norm";
  Rows x;       // [rows, cols], in
  Flat weight;  // [cols], in, may be empty (ones)
  Rows y;       // [rows, cols], out
  Flat rstd;    // [rows], f32 (f64 for f64), out, may be empty
  double eps;   // >= 0

  Cost cost() const {
    return {.bytes = bytes_of(x) + bytes_of(y) + bytes_of(weight) + bytes_of(rstd),
            .flops = 4 * x.elements()};
  }
};

/// With g = dy * weight and h = x * rstd: dx = rstd * (g - h * mean(g * h));
/// dweight = sum over rows of dy * h, in a fixed order.
struct RmsNormBackward {
  static constexpr std::string_view kName = "rms_norm_backward";
  Rows x;        // [rows, cols], in
  Rows dy;       // [rows, cols], in
  Flat weight;   // [cols], in, may be empty
  Flat rstd;     // [rows], f32 (f64 for f64), in
  Rows dx;       // [rows, cols], out, may be empty; may alias dy
  Flat dweight;  // [cols], f32 or the dtype of weight, out, may be empty
  GradWrite dx_write = GradWrite::overwrite;
  GradWrite dweight_write = GradWrite::overwrite;
  Flat workspace;  // u8, workspace_bytes() long

  Cost cost() const {
    return {.bytes = bytes_of(x) + bytes_of(dy) + bytes_of(dx) + bytes_of(weight) + bytes_of(rstd) +
                     bytes_of(dweight),
            .flops = 9 * x.elements()};
  }
};

void run(const RmsNorm& args, CpuStream stream);
void run(const RmsNorm& args, CudaStream stream);
void run(const RmsNormBackward& args, CpuStream stream);
void run(const RmsNormBackward& args, CudaStream stream);
std::int64_t workspace_bytes(const RmsNormBackward& args, CpuStream stream);
std::int64_t workspace_bytes(const RmsNormBackward& args, CudaStream stream);

}  // namespace lamina::kernels
