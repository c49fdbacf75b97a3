// SPDX-License-Identifier: MIT
// Contracts: softmax over the last dimension, plain or causal.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// y[r, :] = exp(x[r, :] - max) / sum. With `period` > 0 the rows are causal: row r uses only the
/// columns up to r % period, the others become 0.
struct Softmax {
  static constexpr std::string_view kName = "softmax";
  Rows x;                   // [rows, cols], in
  Rows y;                   // [rows, cols], out; may alias x
  std::int64_t period = 0;  // rows of one causal matrix; 0 = not causal

  Cost cost() const { return {.bytes = bytes_of(x) + bytes_of(y), .flops = 5 * x.elements()}; }
};

/// dx = y * (dy - sum(dy * y)), or dx += that. Zeros of a causal y give zero gradients.
struct SoftmaxBackward {
  static constexpr std::string_view kName = "softmax_backward";
  Rows y;   // [rows, cols], in: the output of the forward pass
  Rows dy;  // [rows, cols], in
  Rows dx;  // [rows, cols], out; may alias dy
  GradWrite write;

  Cost cost() const {
    return {.bytes = bytes_of(y) + bytes_of(dy) + bytes_of(dx), .flops = 4 * y.elements()};
  }
};

void run(const Softmax& args, CpuStream stream);
void run(const Softmax& args, CudaStream stream);
void run(const SoftmaxBackward& args, CpuStream stream);
void run(const SoftmaxBackward& args, CudaStream stream);

}  // namespace lamina::kernels
