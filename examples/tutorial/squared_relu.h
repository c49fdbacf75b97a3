// SPDX-License-Identifier: MIT
// Tutorial, step 5: what the kernels of the op squared_relu are given.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

/// y = max(x, 0)^2. So et al. 2021, https://arxiv.org/abs/2109.08668, section 3.
struct SquaredRelu {
  static constexpr std::string_view kName = "squared_relu";
  lamina::Flat x;  // [n], in
  lamina::Flat y;  // [n], out, dtype of x

  lamina::Cost cost() const { return {.bytes = bytes_of(x) + bytes_of(y), .flops = 2 * x.size}; }
};

/// dx = 2 * max(x, 0) * dy, or dx += that.
struct SquaredReluBackward {
  static constexpr std::string_view kName = "squared_relu_backward";
  lamina::Flat x, dy;  // [n], in
  lamina::Flat dx;     // [n], out
  lamina::GradWrite write;

  lamina::Cost cost() const {
    return {.bytes = bytes_of(x) + bytes_of(dy) + bytes_of(dx), .flops = 3 * x.size};
  }
};

void run(const SquaredRelu& args, lamina::CpuStream stream);
void run(const SquaredRelu& args, lamina::CudaStream stream);
void run(const SquaredReluBackward& args, lamina::CpuStream stream);
void run(const SquaredReluBackward& args, lamina::CudaStream stream);
