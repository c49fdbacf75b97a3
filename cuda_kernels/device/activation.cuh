// SPDX-License-Identifier: MIT
// The activations and their slopes in f32, for the elementwise kernels and the GEMM epilogue.
#pragma once

#include "core/kernels/elementwise.h"
#include "cuda_kernels/device/exp_sum.cuh"

#include <numbers>

namespace lamina::device {

using kernels::ActivationKind;

constexpr float kInverseSqrt2 = std::numbers::sqrt2_v<float> / 2.0F;
constexpr float kSqrt2OverPi = 0.797884560802865F;
constexpr float kInverseSqrt2Pi = 0.398942280401433F;
constexpr float kCubic = 0.044715F;

/// 1 / (1 + 2^x) by two instructions of the special function unit, each good to 2^-22 (PTX ISA,
/// ex2.approx and rcp.approx). With expf and a division the gradient of GELU took 378 instead of
/// 344 us for [65536, 3072] bf16 on an H200.
__device__ inline float inverse_of_one_plus_exp2(float x) {
  float result;
  asm("{\n\t.reg .f32 power;\n\tex2.approx.ftz.f32 power, %1;\n\t"
      "add.ftz.f32 power, power, 0f3F800000;\n\trcp.approx.ftz.f32 %0, power;\n\t}"
      : "=f"(result)
      : "f"(x));
  return result;
}

__device__ inline float sigmoid(float x) {
  return inverse_of_one_plus_exp2(-kLog2E * x);
}

/// 0.5 (1 + tanh(u)) = sigmoid(2 u) with the u of the tanh form of GELU, of x and x^2.
__device__ inline float gelu_tanh_gate(float x, float square) {
  constexpr float kScale = -2.0F * kLog2E * kSqrt2OverPi;
  return inverse_of_one_plus_exp2(x * fmaf(kScale * kCubic, square, kScale));
}

/// f(x). The forms keep their relative accuracy where the result is small: Phi(x) as erfc, and the
/// tanh form as a sigmoid.
template <ActivationKind kKind>
__device__ inline float activate(float x) {
  if constexpr (kKind == ActivationKind::relu) {
    return x < 0.0F ? 0.0F : x;
  } else if constexpr (kKind == ActivationKind::gelu_erf) {
    return x * (0.5F * erfcf(-x * kInverseSqrt2));
  } else if constexpr (kKind == ActivationKind::gelu_tanh) {
    return x * gelu_tanh_gate(x, x * x);
  } else {
    return x * sigmoid(x);
  }
}

/// The same for an activation that is known at run time.
__device__ inline float activate(ActivationKind kind, float x) {
  switch (kind) {
    case ActivationKind::relu:
      return activate<ActivationKind::relu>(x);
    case ActivationKind::gelu_tanh:
      return activate<ActivationKind::gelu_tanh>(x);
    case ActivationKind::gelu_erf:
      return activate<ActivationKind::gelu_erf>(x);
    case ActivationKind::silu:
      return activate<ActivationKind::silu>(x);
  }
  return x;
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
    x = fminf(fmaxf(x, -1e4F), 1e4F);  // the square of more may be infinite
    const float square = x * x;
    const float s = gelu_tanh_gate(x, square);
    const float inner = fmaf(6.0F * kSqrt2OverPi * kCubic, square, 2.0F * kSqrt2OverPi);
    return s * fmaf(x * (1.0F - s), inner, 1.0F);
  } else {
    const float s = sigmoid(x);
    return s * fmaf(x, 1.0F - s, 1.0F);
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
