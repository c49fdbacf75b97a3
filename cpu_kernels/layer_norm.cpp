// SPDX-License-Identifier: MIT
#include "core/kernels/layer_norm.h"

#include "cpu_kernels/keep_mask.h"
#include "cpu_kernels/parameters.h"
#include "cpu_kernels/sums.h"

#include <algorithm>
#include <cmath>

namespace lamina::kernels {
namespace {

/// sum = residual + dropout(x) for one row.
template <class T>
void add_residual(const LayerNorm& args, const cpu::KeepMask& mask, std::int64_t row) {
  const std::int64_t cols = args.x.cols;
  const T* const x = cpu::row_of<T>(args.x, row);
  const T* const residual = cpu::row_of<T>(args.residual, row);
  T* const sum = cpu::row_of<T>(args.sum, row);
  if (args.drop_p <= 0.0F) {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c)
      sum[c] = residual[c] + x[c];
    return;
  }
  T keep[cpu::kMaskBlock];
  for (std::int64_t at = 0; at < cols; at += cpu::kMaskBlock) {
    const std::int64_t count = std::min(cpu::kMaskBlock, cols - at);
    mask.fill(row * cols + at, count, keep);
#pragma omp simd
    for (std::int64_t c = 0; c < count; ++c) {
      sum[at + c] = residual[at + c] + (keep[c] > T{0} ? x[at + c] * keep[c] : T{0});
    }
  }
}

/// The mean as two numbers, center + correction, and the variance: the second pass measures how far
/// the rounded center is off and takes that out of both. Without it a common offset of 1e4 standard
/// deviations would cost three digits.
template <class T>
struct Moments {
  T center, correction, variance;

  Moments(const T* x, std::int64_t cols) {
    const T n = static_cast<T>(cols);
    center = cpu::lane_sum<T>(cols, [&](std::int64_t c) { return x[c]; }) / n;
    correction = cpu::lane_sum<T>(cols, [&](std::int64_t c) { return x[c] - center; }) / n;
    const T squares =
        cpu::lane_sum<T>(cols, [&](std::int64_t c) { return (x[c] - center) * (x[c] - center); });
    variance = squares / n - correction * correction;
    if (variance < T{0}) variance = T{0};  // by rounding only; NaN stays NaN
  }
};

template <class T>
void forward(const LayerNorm& args) {
  const std::int64_t cols = args.x.cols;
  const std::vector<T> weight = cpu::parameters<T>(args.weight, cols, T{1}, args.kName);
  const std::vector<T> bias = cpu::parameters<T>(args.bias, cols, T{0}, args.kName);
  const T *const w = weight.data(), *const b = bias.data();
  const cpu::KeepMask mask(args.key, args.drop_p);
  cpu::parallel_rows(args.x.rows, cols, [&](std::int64_t row) {
    if (args.residual) add_residual<T>(args, mask, row);
    const T* const x = cpu::row_of<T>(args.residual ? args.sum : args.x, row);
    const Moments<T> moments(x, cols);
    const T rstd = T{1} / std::sqrt(moments.variance + static_cast<T>(args.eps));
    args.mean.as<T>()[row] = moments.center + moments.correction;
    args.rstd.as<T>()[row] = rstd;
    const T center = moments.center, correction = moments.correction;
    T* const y = cpu::row_of<T>(args.y, row);
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) {
      y[c] = ((x[c] - center) - correction) * rstd * w[c] + b[c];
    }
  });
}

/// Sums over rows of one chunk, [cols] each; column is of what is handed on.
template <class T>
struct Partials {
  T *weight, *bias, *column;

  Partials(T* workspace, std::int64_t chunk, std::int64_t cols)
      : weight(workspace + 3 * cols * chunk), bias(weight + cols), column(bias + cols) {
    std::fill_n(weight, 3 * cols, T{0});
  }
};

template <class T>
void backward_row(const LayerNormBackward& args, const T* weight, const cpu::KeepMask& mask,
                  std::int64_t row, const Partials<T>& partials) {
  const std::int64_t cols = args.x.cols;
  const T* const x = cpu::row_of<T>(args.x, row);
  const T* const dy = cpu::row_of<T>(args.dy, row);
  const T* const dsum = cpu::row_of<T>(args.dsum, row);
  T* const dx = args.dx_write == GradWrite::skip ? nullptr : cpu::row_of<T>(args.dx, row);
  T* const dx_drop = cpu::row_of<T>(args.dx_drop, row);
  const T mean = args.mean.as<T>()[row], rstd = args.rstd.as<T>()[row];
  const T n = static_cast<T>(cols);
  const T mean_g = cpu::lane_sum<T>(cols, [&](std::int64_t c) { return dy[c] * weight[c]; }) / n;
  const T mean_gh =
      cpu::lane_sum<T>(cols,
                       [&](std::int64_t c) { return dy[c] * weight[c] * ((x[c] - mean) * rstd); }) /
      n;
  constexpr std::int64_t kBlock = cpu::kMaskBlock;
  for (std::int64_t at = 0; at < cols; at += kBlock) {
    const std::int64_t count = std::min(kBlock, cols - at);
    T value[kBlock];  // of dx, then of what is handed on
#pragma omp simd
    for (std::int64_t c = 0; c < count; ++c) {
      const T grad = dy[at + c], h = (x[at + c] - mean) * rstd;
      value[c] = rstd * (grad * weight[at + c] - mean_g - h * mean_gh);
      partials.weight[at + c] += grad * h;
      partials.bias[at + c] += grad;
    }
    if (dsum) {
#pragma omp simd
      for (std::int64_t c = 0; c < count; ++c)
        value[c] += dsum[at + c];
    }
    if (dx) {
      const GradWrite write = args.dx_write;
#pragma omp simd
      for (std::int64_t c = 0; c < count; ++c)
        dx[at + c] = cpu::written(write, dx[at + c], value[c]);
    }
    if (dx_drop) {
      if (args.drop_p > 0.0F) {
        T keep[kBlock];
        mask.fill(row * cols + at, count, keep);
#pragma omp simd
        for (std::int64_t c = 0; c < count; ++c)
          value[c] *= keep[c];
      }
      std::copy_n(value, count, dx_drop + at);
    }
#pragma omp simd
    for (std::int64_t c = 0; c < count; ++c)
      partials.column[at + c] += value[c];
  }
}

template <class T>
void backward(const LayerNormBackward& args) {
  const std::int64_t cols = args.x.cols;
  const std::vector<T> weight = cpu::parameters<T>(args.weight, cols, T{1}, args.kName);
  const cpu::KeepMask mask(args.key, args.drop_p);
  const cpu::Chunks chunks = cpu::chunks_of(args.x.rows, cols);
  T* const workspace = args.workspace.as<T>();  // [chunks, 3, cols]
  cpu::parallel_for(chunks.count, [&](std::int64_t chunk) {
    const Partials<T> partials(workspace, chunk, cols);
    for (std::int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row) {
      backward_row(args, weight.data(), mask, row, partials);
    }
  });
  const auto finish = [&](std::int64_t which, const Flat& out, GradWrite write) {
    cpu::write_partials(workspace + which * cols, chunks.count, 3 * cols, out, write, args.kName);
  };
  finish(0, args.dweight, args.dweight_write);
  finish(1, args.dbias, args.dbias_write);
  finish(2, args.column_sum, GradWrite::overwrite);
}

}  // namespace

void run(const LayerNorm& args, CpuStream) {
  dispatch_float(args.x.dtype, args.kName, [&]<class T>() { forward<T>(args); });
}

std::int64_t workspace_bytes(const LayerNormBackward& args, CpuStream) {
  return cpu::chunks_of(args.x.rows, args.x.cols).count * 3 * args.x.cols *
         static_cast<std::int64_t>(size_of(args.x.dtype));
}

void run(const LayerNormBackward& args, CpuStream) {
  dispatch_float(args.x.dtype, args.kName, [&]<class T>() { backward<T>(args); });
}

}  // namespace lamina::kernels
