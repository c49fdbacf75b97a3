// SPDX-License-Identifier: MIT
// Contract: set every element of a view.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// y = value, rounded to the dtype of y. Any dtype.
struct Fill {
  static constexpr std::string_view kName = "fill";
  Rows y;  // [rows, cols], out
  double value;

  Cost cost() const { return {.bytes = bytes_of(y)}; }
};

/// y = factor * scalar[0], or y += that: the gradient of a sum.
struct FillFromScalar {
  static constexpr std::string_view kName = "fill_from_scalar";
  Flat scalar;  // [1], float dtype, in device memory
  Rows y;       // [rows, cols], float dtype, out
  double factor;
  GradWrite write;

  Cost cost() const { return {.bytes = bytes_of(y), .flops = y.elements()}; }
};

void run(const Fill& args, CpuStream stream);
void run(const Fill& args, CudaStream stream);
void run(const FillFromScalar& args, CpuStream stream);
void run(const FillFromScalar& args, CudaStream stream);

}  // namespace lamina::kernels
