// SPDX-License-Identifier: MIT
// ExpSum: the sum of exponentials of a row in one pass, without overflow. It works with powers of
// two: x * log2(e) is one multiply-add, 2^x one instruction of the special function unit. Rounding
// of `reference` cancels, because the sum and what is later divided by it use the same one.
// Milakov, Gimelshein 2018, https://arxiv.org/abs/1805.02867, algorithm 3.
#pragma once

#include "cuda_kernels/device/block.cuh"
#include "cuda_kernels/device/warp.cuh"

namespace lamina::device {

inline constexpr float kLog2E = 1.44269504088896341F;
inline constexpr float kLn2 = 0.693147180559945309F;

/// 2^x to within 2 units in the last place; 0 below the normal numbers.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

struct ExpSum {
  float reference = -__builtin_huge_valf();  // the largest x so far, times log2(e)
  float sum = 0.0F;                          // of 2^(x log2(e) - reference)

  /// Takes kWidth more values; -infinity stands for a value that is not there.
  template <int kWidth>
  __device__ __forceinline__ void add(const float (&values)[kWidth]) {
    float largest = values[0];
#pragma unroll
    for (int i = 1; i < kWidth; ++i)
      largest = fmaxf(largest, values[i]);
    const float next = fmaxf(reference, largest * kLog2E);
    const float base = finite_base(next);
    sum *= exp2_fast(reference - base);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      sum += exp2_fast(fmaf(values[i], kLog2E, -base));
    reference = next;
  }

  /// Combines the sums of the kThreads (32, or the whole block) that share a row, in a fixed order.
  template <int kThreads>
  __device__ __forceinline__ void combine() {
    const float next = kThreads == kWarpSize ? warp_max(reference) : block_max(reference);
    const float part = sum * exp2_fast(reference - finite_base(next));
    sum = kThreads == kWarpSize ? warp_sum(part) : block_sum(part);
    reference = next;
  }

  /// log of the sum of exp(x).
  __device__ __forceinline__ float log() const {
    return (reference + log2f(sum)) * kLn2;
  }

 private:
  /// Without any value so far the exponents must stay -infinity - 0.
  static __device__ __forceinline__ float finite_base(float reference) {
    return reference == -__builtin_huge_valf() ? 0.0F : reference;
  }
};

}  // namespace lamina::device
