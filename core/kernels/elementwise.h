// SPDX-License-Identifier: MIT
// Contracts: element-by-element operations with row broadcasting, and activations.
// All rows of one call share a dtype (f32, f64 on the CPU; f32, f16, bf16 on CUDA) unless said.
// Results are computed in f32 (f64 for f64) and rounded once.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// y[r, c] = a[r, c] + b[r % b.rows, c], or y += that. b.rows divides a.rows. y may alias a.
struct Add {
  static constexpr std::string_view kName = "add";
  Rows a;  // [rows, cols], in
  Rows b;  // [rows / k, cols], in; its dtype may be f32 when a is 16-bit
  Rows y;  // [rows, cols], out
  GradWrite write = GradWrite::overwrite;

  Cost cost() const {
    return {.bytes = bytes_of(a) + bytes_of(b) + bytes_of(y), .flops = a.elements()};
  }
};

/// y[r, c] = a[r, c] * b[r % b.rows, c], or y += that.
struct Mul {
  static constexpr std::string_view kName = "mul";
  Rows a, b;  // as in Add, in
  Rows y;     // [rows, cols], out
  GradWrite write = GradWrite::overwrite;

  Cost cost() const {
    return {.bytes = bytes_of(a) + bytes_of(b) + bytes_of(y), .flops = a.elements()};
  }
};

/// y = factor * x, or y += that. The dtypes of x and y may differ.
struct Scale {
  static constexpr std::string_view kName = "scale";
  Rows x;  // [rows, cols], in
  Rows y;  // [rows, cols], out; may alias x
  double factor;
  GradWrite write = GradWrite::overwrite;

  Cost cost() const { return {.bytes = bytes_of(x) + bytes_of(y), .flops = x.elements()}; }
};

enum class ActivationKind : std::uint8_t { relu, gelu_tanh, gelu_erf, silu };

/// y = f(x). GELU: Hendrycks & Gimpel 2016, https://arxiv.org/abs/1606.08415, section 2: x * Phi(x)
/// (erf), or 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (tanh). silu(x) = x / (1 + exp(-x)).
struct Activation {
  static constexpr std::string_view kName = "activation";
  Rows x;  // [rows, cols], in
  Rows y;  // [rows, cols], out; may alias x
  ActivationKind kind;

  Cost cost() const { return {.bytes = bytes_of(x) + bytes_of(y), .flops = 10 * x.elements()}; }
};

/// dx = f'(x) * dy, or dx += that. column_sum = the sum over rows of f'(x) * dy before that is
/// rounded, in a fixed order, or column_sum += that: the bias gradient of a linear layer.
struct ActivationBackward {
  static constexpr std::string_view kName = "activation_backward";
  Rows x;   // [rows, cols], in: the input of the forward pass
  Rows dy;  // [rows, cols], in
  Rows dx;  // [rows, cols], out; may alias dy
  ActivationKind kind;
  GradWrite write;    // of dx; with skip nothing is done, column_sum included
  Flat column_sum{};  // [cols], f32 (f64 for f64), out, may be empty
  GradWrite column_sum_write = GradWrite::overwrite;
  Flat workspace{};  // u8, workspace_bytes() long: none without column_sum

  Cost cost() const {
    return {.bytes = bytes_of(x) + bytes_of(dy) + bytes_of(dx) + bytes_of(column_sum),
            .flops = 16 * x.elements()};
  }
};

void run(const Add& args, CpuStream stream);
void run(const Add& args, CudaStream stream);
void run(const Mul& args, CpuStream stream);
void run(const Mul& args, CudaStream stream);
void run(const Scale& args, CpuStream stream);
void run(const Scale& args, CudaStream stream);
void run(const Activation& args, CpuStream stream);
void run(const Activation& args, CudaStream stream);
void run(const ActivationBackward& args, CpuStream stream);
void run(const ActivationBackward& args, CudaStream stream);
std::int64_t workspace_bytes(const ActivationBackward& args, CpuStream stream);
std::int64_t workspace_bytes(const ActivationBackward& args, CudaStream stream);

}  // namespace lamina::kernels
