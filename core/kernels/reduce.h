// SPDX-License-Identifier: MIT
// Contracts: sums in a fixed order. Accumulated in f32 (f64 for f64).
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// y[0] = factor * sum(x).
struct Sum {
  static constexpr std::string_view kName = "sum";
  Rows x;  // [rows, cols], in
  Flat y;  // [1], float dtype, out
  double factor;
  Flat workspace;  // u8, workspace_bytes() long

  Cost cost() const { return {.bytes = bytes_of(x), .flops = x.elements()}; }
};

/// y[r, c] = sum over k of a[k * y.rows + r, c] (or += that), where a = x, or x * factor when
/// factor is given: the gradient of a broadcast operand; with y.rows = 1 a bias gradient.
struct ColumnSum {
  static constexpr std::string_view kName = "column_sum";
  Rows x;       // [k * y.rows, cols], in
  Rows factor;  // [k * y.rows, cols], in, may be empty
  Rows y;       // [rows, cols], out, f32 or the dtype of x
  GradWrite write;
  Flat workspace;  // u8, workspace_bytes() long

  Cost cost() const {
    return {.bytes = bytes_of(x) + bytes_of(factor) + bytes_of(y), .flops = x.elements()};
  }
};

void run(const Sum& args, CpuStream stream);
void run(const Sum& args, CudaStream stream);
std::int64_t workspace_bytes(const Sum& args, CpuStream stream);
std::int64_t workspace_bytes(const Sum& args, CudaStream stream);
void run(const ColumnSum& args, CpuStream stream);
void run(const ColumnSum& args, CudaStream stream);
std::int64_t workspace_bytes(const ColumnSum& args, CpuStream stream);
std::int64_t workspace_bytes(const ColumnSum& args, CudaStream stream);

}  // namespace lamina::kernels
