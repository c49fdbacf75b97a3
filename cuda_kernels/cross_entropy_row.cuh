// SPDX-License-Identifier: MIT
// What the CUDA kernels of cross-entropy do with a row: its target, its loss, and the gradient of
// its elements. Used by cross_entropy.cu and cross_entropy_staged.cuh.
#pragma once

#include "core/kernels/cross_entropy.h"
#include "cuda_kernels/device/exp_sum.cuh"

#include <cstdint>

namespace lamina::kernels::cross_entropy {

/// The target of a row.
struct Target {
  std::int32_t index;
  bool is_ignored;
  bool is_class;

  __device__ __forceinline__ Target(std::int32_t target, std::int32_t ignore_index,
                                    std::int64_t classes)
      : index(target),
        is_ignored(target == ignore_index),
        is_class(target != ignore_index && target >= 0 && target < classes) {}

  /// `value` for a row that counts, 0 for one that is ignored, NaN for a target that is no class.
  __device__ __forceinline__ float if_class(float value) const {
    return is_class ? value : is_ignored ? 0.0F : __int_as_float(0x7fffffff);
  }
};

/// What the elements of a row's gradient share.
struct GradientRow {
  float reference;  // lse times log2(e)
  float factor;     // dloss / count
  Target target;

  /// Turns the logits from column `col` on into their gradients.
  template <int kWidth>
  __device__ __forceinline__ void apply(float (&values)[kWidth], std::int64_t col,
                                        std::int64_t classes) const {
    if (target.is_ignored) {
#pragma unroll
      for (float& value : values)
        value = 0.0F;
      return;
    }
#pragma unroll
    for (float& value : values)
      value = device::exp2_fast(fmaf(value, device::kLog2E, -reference));
    const std::int64_t hit = target.index - col;
    if (hit >= 0 && hit < kWidth) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] -= i == hit ? 1.0F : 0.0F;
    }
#pragma unroll
    for (float& value : values)
      value *= factor;
    if (col + kWidth > classes) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] = col + i < classes ? values[i] : 0.0F;
    }
  }
};

template <class T>
struct ForwardArgs {
  const T* logits;              // [rows, cols], `stride` from row to row
  T* dlogits;                   // the same with `dstride`; may be logits
  const std::int32_t* targets;  // [rows]
  const float* count;           // [1], for dlogits; or nullptr
  float* losses;                // [rows], out
  float* lse;                   // [rows], out
  std::int64_t rows, cols, classes, stride, dstride;
  std::int32_t ignore_index;

  __device__ __forceinline__ Target target(std::int64_t row) const {
    return {targets[row], ignore_index, classes};
  }

  /// `logit` is that of the target. Called by the thread that owns it, or it would be overwritten.
  __device__ __forceinline__ void write_loss(std::int64_t row, const Target& target, float log_sum,
                                             float logit) const {
    losses[row] = target.if_class(log_sum - logit);
    lse[row] = log_sum;
  }

  __device__ __forceinline__ GradientRow gradient(const Target& target,
                                                  const device::ExpSum& total) const {
    return {total.reference + log2f(total.sum), target.if_class(count ? 1.0F / *count : 1.0F),
            target};
  }
};

/// Whether the kernel of the rows comes after one that counts them, and need not wait to read
/// logits.
inline bool starts_early(const CrossEntropy& args) {
  return args.dlogits && args.count;
}

template <class T>
ForwardArgs<T> forward_args(const CrossEntropy& args) {
  return {.logits = args.logits.as<const T>(),
          .dlogits = args.dlogits.as<T>(),
          .targets = args.targets.as<const std::int32_t>(),
          .count = args.count.as<const float>(),
          .losses = args.losses.as<float>(),
          .lse = args.lse.as<float>(),
          .rows = args.logits.rows,
          .cols = args.logits.cols,
          .classes = args.classes,
          .stride = args.logits.stride,
          .dstride = args.dlogits.stride,
          .ignore_index = args.ignore_index};
}

}  // namespace lamina::kernels::cross_entropy
