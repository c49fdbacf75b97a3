// SPDX-License-Identifier: MIT
// Activation functions and their slopes, shared by the elementwise kernels and the GEMM epilogue.
#pragma once

#include "core/kernels/elementwise.h"
#include "cpu_kernels/vector_math.h"

#include <cmath>
#include <numbers>

namespace lamina::kernels::cpu {

struct Relu {
  template <class T>
  static T value(T x) {
    return x < T{0} ? T{0} : x;  // NaN stays NaN
  }

  template <class T>
  static T slope(T x) {
    return x > T{0} ? T{1} : T{0};
  }
};

/// 0.5 (1 + tanh(u)) is sigmoid(2 u): one exponential, and no cancellation for negative x.
struct GeluTanh {
  template <class T>
  static T gate(T x) {
    constexpr T kTwice = T{2} * std::numbers::sqrt2_v<T> * std::numbers::inv_sqrtpi_v<T>;
    return sigmoid_of(kTwice * x * (T{1} + static_cast<T>(0.044715) * x * x));
  }

  template <class T>
  static T value(T x) {
    return x * gate(x);
  }

  template <class T>
  static T slope(T x) {
    constexpr T kTwice = T{2} * std::numbers::sqrt2_v<T> * std::numbers::inv_sqrtpi_v<T>;
    const T s = gate(x);
    const T du = kTwice * (T{1} + static_cast<T>(3 * 0.044715) * x * x);
    return s + x * s * (T{1} - s) * du;
  }
};

struct GeluErf {
  template <class T>
  static T phi(T x) {
    return T{0.5} * std::erfc(-x / std::numbers::sqrt2_v<T>);
  }

  template <class T>
  static T value(T x) {
    return x * phi(x);
  }

  template <class T>
  static T slope(T x) {
    constexpr T kDensity = std::numbers::inv_sqrtpi_v<T> / std::numbers::sqrt2_v<T>;
    return phi(x) + x * kDensity * exp_of(T{-0.5} * x * x);
  }
};

struct Silu {
  template <class T>
  static T value(T x) {
    return x * sigmoid_of(x);
  }

  template <class T>
  static T slope(T x) {
    const T s = sigmoid_of(x);
    return s + x * s * (T{1} - s);
  }
};

/// Calls f with the function's type as argument: f(GeluTanh{}).
template <class F>
void dispatch_activation(ActivationKind kind, F&& f) {
  switch (kind) {
    case ActivationKind::relu:
      return f(Relu{});
    case ActivationKind::gelu_tanh:
      return f(GeluTanh{});
    case ActivationKind::gelu_erf:
      return f(GeluErf{});
    case ActivationKind::silu:
      return f(Silu{});
  }
}

}  // namespace lamina::kernels::cpu
