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

/// What a row's gradient is made of.
template <class T>
struct GradientRow {
  const T* logits;  // [classes]
  T* dlogits;       // [cols]; may be logits
  T lse;
  T factor;
  std::int64_t target;
  bool is_ignored;
};

template <class T>
void write_gradient(const GradientRow<T>& row, std::int64_t classes, std::int64_t cols,
                    GradWrite write) {
  if (row.is_ignored) {
    if (write == GradWrite::overwrite) std::fill_n(row.dlogits, cols, T{0});
    return;
  }
  T* const dlogits = row.dlogits;
#pragma omp simd
  for (std::int64_t c = 0; c < classes; ++c) {
    const T p = cpu::exp_of(row.logits[c] - row.lse) - (c == row.target ? T{1} : T{0});
    dlogits[c] = cpu::written(write, dlogits[c], p * row.factor);
  }
  if (write == GradWrite::overwrite) std::fill(dlogits + classes, dlogits + cols, T{0});
}

}  // namespace

void run(const CrossEntropy& args, CpuStream stream) {
  const std::int64_t count = check_targets(args);
  const auto* const targets = args.targets.as<std::int32_t>();
  dispatch_float(args.logits.dtype, args.kName, [&]<class T>() {
    T* const losses = args.losses.as<T>();
    T* const lse = args.lse.as<T>();
    const T factor = !args.count ? T{1} : count > 0 ? T{1} / static_cast<T>(count) : T{0};
    cpu::parallel_rows(args.logits.rows, args.classes, [&](std::int64_t row) {
      const T* const logits = cpu::row_of<T>(args.logits, row);
      const T largest = cpu::lane_max(logits, args.classes);
      const T sum = cpu::lane_sum<T>(
          args.classes, [&](std::int64_t c) { return cpu::exp_of(logits[c] - largest); });
      lse[row] = largest + std::log(sum);
      const bool is_ignored = targets[row] == args.ignore_index;
      losses[row] = is_ignored ? T{0} : lse[row] - logits[targets[row]];
      if (!args.dlogits) return;
      write_gradient<T>({.logits = logits,
                         .dlogits = cpu::row_of<T>(args.dlogits, row),
                         .lse = lse[row],
                         .factor = factor,
                         .target = targets[row],
                         .is_ignored = is_ignored},
                        args.classes, args.dlogits.cols, GradWrite::overwrite);
    });
  });
  if (!args.loss) return;
  run(CrossEntropyMean{args.losses, args.targets, args.ignore_index, args.loss, args.count},
      stream);
}

void run(const CrossEntropyMean& args, CpuStream) {
  const auto* const targets = args.targets.as<std::int32_t>();
  const std::int64_t rows = args.losses.size;
  dispatch_float(args.losses.dtype, args.kName, [&]<class T>() {
    const T* const losses = args.losses.as<T>();
    const auto count = rows - std::count(targets, targets + rows, args.ignore_index);
    const T total = cpu::lane_sum<T>(rows, [&](std::int64_t row) { return losses[row]; });
    *args.loss.as<T>() = count > 0 ? total / static_cast<T>(count) : T{0};
    *args.count.as<T>() = static_cast<T>(count);
  });
}

void run(const CrossEntropyScale& args, CpuStream) {
  dispatch_float(args.gradient.dtype, args.kName, [&]<class T>() {
    T factor = *args.dloss.as<T>();
    if (args.count) {
      const T count = *args.count.as<T>();
      factor = count > T{0} ? factor / count : T{0};
    }
    if (factor == T{1}) return;
    cpu::parallel_rows(args.gradient.rows, args.gradient.cols, [&](std::int64_t row) {
      T* const gradient = cpu::row_of<T>(args.gradient, row);
#pragma omp simd
      for (std::int64_t c = 0; c < args.gradient.cols; ++c)
        gradient[c] *= factor;
    });
  });
}

void run(const CrossEntropyBackward& args, CpuStream) {
  if (args.write == GradWrite::skip) return;
  const auto* const targets = args.targets.as<std::int32_t>();
  dispatch_float(args.dlogits.dtype, args.kName, [&]<class T>() {
    const T count = *args.count.as<T>();
    const T factor = count > T{0} ? *args.dloss.as<T>() / count : T{0};
    cpu::parallel_rows(args.dlogits.rows, args.dlogits.cols, [&](std::int64_t row) {
      write_gradient<T>({.logits = cpu::row_of<T>(args.logits, row),
                         .dlogits = cpu::row_of<T>(args.dlogits, row),
                         .lse = args.lse.as<T>()[row],
                         .factor = factor,
                         .target = targets[row],
                         .is_ignored = targets[row] == args.ignore_index},
                        args.classes, args.dlogits.cols, args.write);
    });
  });
}

}  // namespace lamina::kernels
