// SPDX-License-Identifier: MIT
// The activations and their slopes in f32, for the elementwise kernels and the GEMM epilogue.
#pragma once

#include "core/kernels/elementwise.h"

#include <numbers>

namespace lamina::device {

using kernels::ActivationKind;

constexpr float kInverseSqrt2 = std::numbers::sqrt2_v<float> / 2.0F;
constexpr float kSqrt2OverPi = 0.797884560802865F;
constexpr float kInverseSqrt2Pi = 0.398942280401433F;
constexpr float kCubic = 0.044715F;

/// The fast division (2 ulp) has no slow path, which would cost registers.
__device__ inline float sigmoid(float x) {
  return __fdividef(1.0F, 1.0F + expf(-x));
}

/// f(x). The forms keep their relative accuracy where the result is small: Phi(x) as erfc, and
/// 0.5 (1 + tanh(u)) as sigmoid(2 u).
template <ActivationKind kKind>
__device__ inline float activate(float x) {
  if constexpr (kKind == ActivationKind::relu) {
    return x < 0.0F ? 0.0F : x;
  } else if constexpr (kKind == ActivationKind::gelu_erf) {
    return x * (0.5F * erfcf(-x * kInverseSqrt2));
  } else if constexpr (kKind == ActivationKind::gelu_tanh) {
    return x * sigmoid(2.0F * kSqrt2OverPi * (x + kCubic * x * x * x));
  } else {
    return x * sigmoid(x);
  }
}

/// f'(x).
template <ActivationKind kKind>
__device__ inline float slope(float x) {
  if constexpr (kKind == ActivationKind::relu) {
    return x > 0.0F ? 1.0F : 0.0F;
  } else if constexpr (kKind == ActivationKind::gelu_erf) {
    const float density = kInverseSqrt2Pi * expf(-0.5F * x * x);
    return fmaf(x, density, 0.5F * erfcf(-x * kInverseSqrt2));
  } else if constexpr (kKind == ActivationKind::gelu_tanh) {
    const float s = sigmoid(2.0F * kSqrt2OverPi * (x + kCubic * x * x * x));
    const float inner = 2.0F * kSqrt2OverPi * (1.0F + 3.0F * kCubic * x * x);
    return s * (1.0F + x * (1.0F - s) * inner);
  } else {
    const float s = sigmoid(x);
    return s * (1.0F + x * (1.0F - s));
  }
}

/// Calls f.operator()<kKind>().
template <class F>
void dispatch_activation(ActivationKind kind, F&& f) {
  switch (kind) {
    case ActivationKind::relu:
      return f.template operator()<ActivationKind::relu>();
    case ActivationKind::gelu_tanh:
      return f.template operator()<ActivationKind::gelu_tanh>();
    case ActivationKind::gelu_erf:
      return f.template operator()<ActivationKind::gelu_erf>();
    case ActivationKind::silu:
      return f.template operator()<ActivationKind::silu>();
  }
}

}  // namespace lamina::device
