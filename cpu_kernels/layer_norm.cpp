// SPDX-License-Identifier: MIT
// LayerNorm and RMSNorm.
#include "core/kernels/layer_norm.h"

#include "cpu_kernels/keep_mask.h"
#include "cpu_kernels/parameters.h"
#include "cpu_kernels/sums.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace lamina::kernels {
namespace {

/// Calls f.operator()<T, S>() for rows of type T beside a residual stream of type S, in which all
/// arithmetic is done: f32 or f64 for both, or an f64 stream of f32 rows.
template <class F>
void dispatch_stream(DType rows, DType stream, std::string_view op, F&& f) {
  dispatch_float(stream, op, [&]<class S>() {
    if (rows == stream) return f.template operator()<S, S>();
    if constexpr (std::is_same_v<S, double>) {
      if (rows == DType::f32) return f.template operator()<float, double>();
    }
    throw DTypeError(cat(op, ": dtype is ", rows, ", expected ", stream,
                         " (the dtype of the stream)",
                         stream == DType::f64 ? " or f32, which is narrower" : ""));
  });
}

/// sum = residual + dropout(x) for one row.
template <class T, class S>
void add_residual(const LayerNorm& args, const cpu::KeepMask& mask, std::int64_t row) {
  const std::int64_t cols = args.x.cols;
  const T* const x = cpu::row_of<T>(args.x, row);
  const S* const residual = cpu::row_of<S>(args.residual, row);
  S* const sum = cpu::row_of<S>(args.sum, row);
  if (args.drop_p <= 0.0F) {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c)
      sum[c] = residual[c] + static_cast<S>(x[c]);
    return;
  }
  S keep[cpu::kMaskBlock];
  for (std::int64_t at = 0; at < cols; at += cpu::kMaskBlock) {
    const std::int64_t count = std::min(cpu::kMaskBlock, cols - at);
    mask.fill(row * cols + at, count, keep);
#pragma omp simd
    for (std::int64_t c = 0; c < count; ++c) {
      const S added = keep[c] > S{0} ? static_cast<S>(x[at + c]) * keep[c] : S{0};
      sum[at + c] = residual[at + c] + added;
    }
  }
}

/// The mean as two numbers, center + correction, and the variance: the second pass measures how far
/// the rounded center is off and takes that out of both. Without it a common offset of 1e4 standard
/// deviations would cost three digits. Of RMSNorm: 0, and the mean of the squares.
template <class S>
struct Moments {
  S center{}, correction{}, variance;

  Moments(Norm norm, const S* x, std::int64_t cols) {
    const S n = static_cast<S>(cols);
    if (norm == Norm::rms) {
      variance = cpu::lane_sum<S>(cols, [&](std::int64_t c) { return x[c] * x[c]; }) / n;
      return;
    }
    center = cpu::lane_sum<S>(cols, [&](std::int64_t c) { return x[c]; }) / n;
    correction = cpu::lane_sum<S>(cols, [&](std::int64_t c) { return x[c] - center; }) / n;
    const S squares =
        cpu::lane_sum<S>(cols, [&](std::int64_t c) { return (x[c] - center) * (x[c] - center); });
    variance = squares / n - correction * correction;
    if (variance < S{0}) variance = S{0};  // by rounding only; NaN stays NaN
  }
};

template <class T, class S>
void forward(const LayerNorm& args) {
  const std::int64_t cols = args.x.cols;
  const std::vector<S> weight = cpu::parameters<S>(args.weight, cols, S{1}, args.name());
  const std::vector<S> bias = cpu::parameters<S>(args.bias, cols, S{0}, args.name());
  const S *const w = weight.data(), *const b = bias.data();
  const cpu::KeepMask mask(args.key, args.drop_p);
  cpu::parallel_rows(args.x.rows, cols, [&](std::int64_t row) {
    if (args.residual) add_residual<T, S>(args, mask, row);
    const S* const x = cpu::row_of<S>(args.residual ? args.sum : args.x, row);
    const Moments<S> moments(args.norm, x, cols);
    const S rstd = S{1} / std::sqrt(moments.variance + static_cast<S>(args.eps));
    if (args.mean) args.mean.as<S>()[row] = moments.center + moments.correction;
    if (args.rstd) args.rstd.as<S>()[row] = rstd;
    const S center = moments.center, correction = moments.correction;
    T* const y = cpu::row_of<T>(args.y, row);
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) {
      y[c] = static_cast<T>(((x[c] - center) - correction) * rstd * w[c] + b[c]);
    }
  });
}

/// Sums over rows of one chunk, [cols] each; column is of what is handed on.
template <class S>
struct Partials {
  S *weight, *bias, *column;

  Partials(S* workspace, std::int64_t chunk, std::int64_t cols)
      : weight(workspace + 3 * cols * chunk), bias(weight + cols), column(bias + cols) {
    std::fill_n(weight, 3 * cols, S{0});
  }
};

template <class T, class S>
void backward_row(const LayerNormBackward& args, const S* weight, const cpu::KeepMask& mask,
                  std::int64_t row, const Partials<S>& partials) {
  const std::int64_t cols = args.x.cols;
  const S* const x = cpu::row_of<S>(args.x, row);
  const T* const dy = cpu::row_of<T>(args.dy, row);
  const S* const dsum = cpu::row_of<S>(args.dsum, row);
  S* const dx = args.dx_write == GradWrite::skip ? nullptr : cpu::row_of<S>(args.dx, row);
  T* const dx_drop = cpu::row_of<T>(args.dx_drop, row);
  const bool centers = args.norm == Norm::layer;
  const S mean = centers ? args.mean.as<S>()[row] : S{0}, rstd = args.rstd.as<S>()[row];
  const S n = static_cast<S>(cols);
  const auto g = [&](std::int64_t c) { return static_cast<S>(dy[c]) * weight[c]; };
  const S mean_g = centers ? cpu::lane_sum<S>(cols, g) / n : S{0};
  const S mean_gh =
      cpu::lane_sum<S>(cols, [&](std::int64_t c) { return g(c) * ((x[c] - mean) * rstd); }) / n;
  constexpr std::int64_t kBlock = cpu::kMaskBlock;
  for (std::int64_t at = 0; at < cols; at += kBlock) {
    const std::int64_t count = std::min(kBlock, cols - at);
    S value[kBlock];  // of dx, then of what is handed on
#pragma omp simd
    for (std::int64_t c = 0; c < count; ++c) {
      const S grad = static_cast<S>(dy[at + c]), h = (x[at + c] - mean) * rstd;
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
        S keep[kBlock];
        mask.fill(row * cols + at, count, keep);
#pragma omp simd
        for (std::int64_t c = 0; c < count; ++c)
          value[c] *= keep[c];
      }
#pragma omp simd
      for (std::int64_t c = 0; c < count; ++c)
        dx_drop[at + c] = static_cast<T>(value[c]);
    }
#pragma omp simd
    for (std::int64_t c = 0; c < count; ++c)
      partials.column[at + c] += value[c];
  }
}

template <class T, class S>
void backward(const LayerNormBackward& args) {
  const std::int64_t cols = args.x.cols;
  const std::vector<S> weight = cpu::parameters<S>(args.weight, cols, S{1}, args.name());
  const cpu::KeepMask mask(args.key, args.drop_p);
  const cpu::Chunks chunks = cpu::chunks_of(args.x.rows, cols);
  S* const workspace = args.workspace.as<S>();  // [chunks, 3, cols]
  cpu::parallel_for(chunks.count, [&](std::int64_t chunk) {
    const Partials<S> partials(workspace, chunk, cols);
    for (std::int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row) {
      backward_row<T>(args, weight.data(), mask, row, partials);
    }
  });
  const auto finish = [&](std::int64_t which, const Flat& out, GradWrite write) {
    cpu::write_partials(workspace + which * cols, chunks.count, 3 * cols, out, write, args.name());
  };
  finish(0, args.dweight, args.dweight_write);
  finish(1, args.dbias, args.dbias_write);
  finish(2, args.column_sum, GradWrite::overwrite);
}

}  // namespace

void run(const LayerNorm& args, CpuStream) {
  const DType stream = args.residual ? args.residual.dtype : args.x.dtype;
  dispatch_stream(args.y.dtype, stream, args.name(),
                  [&]<class T, class S>() { forward<T, S>(args); });
}

std::int64_t workspace_bytes(const LayerNormBackward& args, CpuStream) {
  return cpu::chunks_of(args.x.rows, args.x.cols).count * 3 * args.x.cols *
         static_cast<std::int64_t>(size_of(args.x.dtype));
}

void run(const LayerNormBackward& args, CpuStream) {
  dispatch_stream(args.dy.dtype, args.x.dtype, args.name(),
                  [&]<class T, class S>() { backward<T, S>(args); });
}

}  // namespace lamina::kernels
