// SPDX-License-Identifier: MIT
#include "core/kernels/cross_entropy.h"

#include "core/error.h"
#include "core/text.h"
#include "cpu_kernels/sums.h"
#include "cpu_kernels/vector_math.h"

#include <algorithm>
#include <cmath>

namespace lamina::kernels {
namespace {

/// Number of rows that count. Throws for a target that is no class.
std::int64_t check_targets(const CrossEntropy& args) {
  const auto* const targets = args.targets.as<std::int32_t>();
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < args.logits.rows; ++row) {
    if (targets[row] == args.ignore_index) continue;
    if (targets[row] < 0 || targets[row] >= args.classes) {
      throw Error(cat("cross_entropy: target ", targets[row], " at row ", row,
                      ", expected 0 <= target < ", args.classes, " (the classes) or ",
                      args.ignore_index, " (ignored)"));
    }
    ++count;
  }
  return count;
}

}  // namespace

std::int64_t workspace_bytes(const CrossEntropy&, CpuStream) {
  return 0;
}

void run(const CrossEntropy& args, CpuStream) {
  const std::int64_t count = check_targets(args);
  const auto* const targets = args.targets.as<std::int32_t>();
  dispatch_float(args.logits.dtype, args.kName, [&]<class T>() {
    T* const losses = args.losses.as<T>();
    T* const lse = args.lse.as<T>();
    cpu::parallel_rows(args.logits.rows, args.classes, [&](std::int64_t row) {
      const T* const logits = cpu::row_of<T>(args.logits, row);
      const T largest = cpu::lane_max(logits, args.classes);
      const T sum = cpu::lane_sum<T>(
          args.classes, [&](std::int64_t c) { return cpu::exp_of(logits[c] - largest); });
      lse[row] = largest + std::log(sum);
      losses[row] = targets[row] == args.ignore_index ? T{0} : lse[row] - logits[targets[row]];
    });
    const T total =
        cpu::lane_sum<T>(args.logits.rows, [&](std::int64_t row) { return losses[row]; });
    *args.loss.as<T>() = count > 0 ? total / static_cast<T>(count) : T{0};
    *args.count.as<T>() = static_cast<T>(count);
  });
}

void run(const CrossEntropyBackward& args, CpuStream) {
  if (args.write == GradWrite::skip) return;
  const auto* const targets = args.targets.as<std::int32_t>();
  const std::int64_t classes = args.classes, cols = args.dlogits.cols;
  dispatch_float(args.dlogits.dtype, args.kName, [&]<class T>() {
    const T count = *args.count.as<T>();
    const T factor = count > T{0} ? *args.dloss.as<T>() / count : T{0};
    cpu::parallel_rows(args.dlogits.rows, cols, [&](std::int64_t row) {
      const T* const logits = cpu::row_of<T>(args.logits, row);
      T* const dlogits = cpu::row_of<T>(args.dlogits, row);
      const GradWrite write = args.write;
      if (targets[row] == args.ignore_index) {
        if (write == GradWrite::overwrite) std::fill_n(dlogits, cols, T{0});
        return;
      }
      const T lse = args.lse.as<T>()[row];
      const std::int64_t target = targets[row];
#pragma omp simd
      for (std::int64_t c = 0; c < classes; ++c) {
        const T p = cpu::exp_of(logits[c] - lse) - (c == target ? T{1} : T{0});
        dlogits[c] = cpu::written(write, dlogits[c], p * factor);
      }
      if (write == GradWrite::overwrite) std::fill(dlogits + classes, dlogits + cols, T{0});
    });
  });
}

}  // namespace lamina::kernels
