// SPDX-License-Identifier: MIT
// A user's own op and layer, as a program outside of Lamina would write them: a kernel contract,
// its CPU and CUDA implementations, the differentiable op, and a layer that uses it. Nothing in the
// framework knows about any of this.
#pragma once

#include "core/stream.h"
#include "core/view.h"
#include "nn/nn.h"

#include <string_view>

namespace custom {

/// y = tanh(scale * x).
struct ScaledTanh {
  static constexpr std::string_view kName = "scaled_tanh";
  lamina::Flat x;  // [n], in
  lamina::Flat y;  // [n], out, dtype of x
  float scale;

  lamina::Cost cost() const { return {.bytes = bytes_of(x) + bytes_of(y), .flops = 10 * x.size}; }
};

/// dx = scale * (1 - y^2) * dy, or dx += that.
struct ScaledTanhBackward {
  static constexpr std::string_view kName = "scaled_tanh_backward";
  lamina::Flat y, dy;  // [n], in
  lamina::Flat dx;     // [n], out
  float scale;
  lamina::GradWrite write;

  lamina::Cost cost() const {
    return {.bytes = bytes_of(y) + bytes_of(dy) + bytes_of(dx), .flops = 4 * y.size};
  }
};

// launch() finds these by the type of the arguments. The CUDA ones exist in CUDA builds.
void run(const ScaledTanh& args, lamina::CpuStream stream);
void run(const ScaledTanh& args, lamina::CudaStream stream);
void run(const ScaledTanhBackward& args, lamina::CpuStream stream);
void run(const ScaledTanhBackward& args, lamina::CudaStream stream);

/// tanh(scale * x), differentiable. x: any shape, contiguous. Keeps its result, not x, for
/// backward.
lamina::Var scaled_tanh(const lamina::Var& x, float scale);

/// A gated linear layer: scaled_tanh(x weight^T + bias) * gain. x: [..., width]; so is the result.
struct TanhGate : lamina::Layer<TanhGate> {
  explicit TanhGate(std::int64_t width) : width(width) {}

  const std::int64_t width;
  lamina::Var& gain = param("gain", {width}, lamina::init::ones);
  lamina::nn::Linear& gate = add<lamina::nn::Linear>("gate", width, width);

  lamina::Var forward(const lamina::Var& x) { return scaled_tanh(gate(x), 1.5F) * gain; }
};

}  // namespace custom
