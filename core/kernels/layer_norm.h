// SPDX-License-Identifier: MIT
// Contracts: LayerNorm and RMSNorm, forward and backward, with the residual stream and dropout
// fused in. Ba, Kiros, Hinton 2016, https://arxiv.org/abs/1607.06450, equations 3 and 4; Zhang,
// Sennrich 2019, https://arxiv.org/abs/1910.07467, equation 4.
#pragma once

#include "core/random.h"
#include "core/stream.h"
#include "core/view.h"

#include <cstdint>
#include <string_view>

namespace lamina::kernels {

enum class Norm : std::uint8_t {
  layer,
  rms  // neither centred nor shifted: the mean below is 0, and mean, bias and dbias stay empty
};

/// sum = residual + dropout(x)   (sum = x when there is no residual)
/// y = (sum - mean) * rstd * weight + bias, row by row; rstd = 1 / sqrt(variance + eps), eps >= 0;
/// of RMSNorm the variance is mean(sum^2).
/// Moments are f32 (f64 for f64), taken from the rounded sum, around a center near the mean.
/// Dtypes: y has one, T; residual and sum, the stream, have T or one that is wider (f32 for f16 and
/// bf16, f64 for f32). x has T with a residual; without one x is the stream. weight and bias share
/// T or f32.
struct LayerNorm {
  Rows x;         // [rows, cols], in; a stride of 0 repeats one row
  Rows residual;  // [rows, cols], in, may be empty
  Flat weight;    // [cols], in, may be empty (ones)
  Flat bias;      // [cols], in, may be empty (zeros)
  Rows sum;       // [rows, cols], out; empty exactly when residual is; may alias residual
  Rows y;         // [rows, cols], out
  Flat mean;      // [rows], f32 (f64 for an f64 stream), out, may be empty
  Flat rstd;      // [rows], as mean, out, may be empty
  double eps;
  float drop_p = 0.0F;  // of x, only with a residual
  PhiloxKey key{};      // element i = row * cols + col
  Norm norm = Norm::layer;

  std::string_view name() const { return norm == Norm::layer ? "layer_norm" : "rms_norm"; }

  Cost cost() const {
    return {.bytes = bytes_of(x) + bytes_of(residual) + bytes_of(sum) + bytes_of(y) +
                     bytes_of(weight) + bytes_of(bias) + bytes_of(mean) + bytes_of(rstd),
            .flops = (norm == Norm::layer ? 9 : 4) * x.elements()};
  }
};

/// With g = dy * weight and h = (x - mean) * rstd:
///   dx      = rstd * (g - mean(g) - h * mean(g * h)) + dsum   (of RMSNorm without mean(g))
///   dx_drop = dropout'(dx): what reaches the x of the forward pass; with drop_p = 0, dx in the
///             dtype of that x
///   dweight = sum over rows of dy * h;  dbias = sum over rows of dy
///   column_sum = sum over rows of dx_drop (of dx when there is none), before they are rounded
/// dx, dweight and dbias follow their writes; dx_drop and column_sum are always overwritten, from
/// this call's dx alone. Sums over rows run in a fixed order.
/// Dtypes: dy and dx_drop have one, T; x, dsum and dx, the stream, have T or one that is wider.
struct LayerNormBackward {
  Rows x;           // [rows, cols], in: what was normalised (the sum of the forward pass)
  Rows dy;          // [rows, cols], in
  Rows dsum;        // [rows, cols], in, may be empty: gradient that reached the sum elsewhere
  Flat weight;      // [cols], in, may be empty
  Flat mean, rstd;  // [rows], f32 (f64 for an f64 stream), in
  Rows dx;          // [rows, cols], out, may be empty; may alias dy or dsum
  Rows dx_drop;     // [rows, cols], out, may be empty
  Flat dweight;     // [cols], f32 or the dtype of weight, out, may be empty
  Flat dbias;       // [cols], as dweight, out, may be empty
  Flat column_sum;  // [cols], f32 (f64 for an f64 stream), out, may be empty
  GradWrite dx_write = GradWrite::overwrite;
  GradWrite dweight_write = GradWrite::overwrite;
  GradWrite dbias_write = GradWrite::overwrite;
  float drop_p = 0.0F;
  PhiloxKey key{};
  Flat workspace;  // u8, workspace_bytes() long
  Norm norm = Norm::layer;

  std::string_view name() const {
    return norm == Norm::layer ? "layer_norm_backward" : "rms_norm_backward";
  }

  Cost cost() const {
    return {.bytes = bytes_of(x) + bytes_of(dy) + bytes_of(dsum) + bytes_of(dx) +
                     bytes_of(dx_drop) + bytes_of(weight) + bytes_of(mean) + bytes_of(rstd) +
                     bytes_of(dweight) + bytes_of(dbias),
            .flops = (norm == Norm::layer ? 14 : 9) * x.elements()};
  }
};

void run(const LayerNorm& args, CpuStream stream);
void run(const LayerNorm& args, CudaStream stream);
void run(const LayerNormBackward& args, CpuStream stream);
void run(const LayerNormBackward& args, CudaStream stream);
std::int64_t workspace_bytes(const LayerNormBackward& args, CpuStream stream);
std::int64_t workspace_bytes(const LayerNormBackward& args, CudaStream stream);

}  // namespace lamina::kernels
