// SPDX-License-Identifier: MIT
#include "core/kernels/rms_norm.h"

#include "cpu_kernels/parameters.h"
#include "cpu_kernels/sums.h"

#include <algorithm>
#include <cmath>

namespace lamina::kernels {
namespace {

template <class T>
void forward(const RmsNorm& args) {
  const std::int64_t cols = args.x.cols;
  const std::vector<T> weight = cpu::parameters<T>(args.weight, cols, T{1}, args.kName);
  const T* const w = weight.data();
  cpu::parallel_rows(args.x.rows, cols, [&](std::int64_t row) {
    const T* const x = cpu::row_of<T>(args.x, row);
    T* const y = cpu::row_of<T>(args.y, row);
    const T squares = cpu::lane_sum<T>(cols, [&](std::int64_t c) { return x[c] * x[c]; });
    const T rstd = T{1} / std::sqrt(squares / static_cast<T>(cols) + static_cast<T>(args.eps));
    if (args.rstd) args.rstd.as<T>()[row] = rstd;
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c)
      y[c] = x[c] * rstd * w[c];
  });
}

template <class T>
void backward(const RmsNormBackward& args) {
  const std::int64_t cols = args.x.cols;
  const std::vector<T> weight = cpu::parameters<T>(args.weight, cols, T{1}, args.kName);
  const T* const w = weight.data();
  const cpu::Chunks chunks = cpu::chunks_of(args.x.rows, cols);
  T* const workspace = args.workspace.as<T>();  // [chunks, cols]
  cpu::parallel_for(chunks.count, [&](std::int64_t chunk) {
    T* const partial = workspace + chunk * cols;
    std::fill_n(partial, cols, T{0});
    for (std::int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row) {
      const T* const x = cpu::row_of<T>(args.x, row);
      const T* const dy = cpu::row_of<T>(args.dy, row);
      const T rstd = args.rstd.as<T>()[row];
      const T mean_gh =
          cpu::lane_sum<T>(cols, [&](std::int64_t c) { return dy[c] * w[c] * (x[c] * rstd); }) /
          static_cast<T>(cols);
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c)
        partial[c] += dy[c] * (x[c] * rstd);
      if (!args.dx || args.dx_write == GradWrite::skip) continue;
      T* const dx = cpu::row_of<T>(args.dx, row);
      const GradWrite write = args.dx_write;
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) {
        const T value = rstd * (dy[c] * w[c] - x[c] * rstd * mean_gh);
        dx[c] = cpu::written(write, dx[c], value);
      }
    }
  });
  cpu::write_partials(workspace, chunks.count, cols, args.dweight, args.dweight_write, args.kName);
}

}  // namespace

void run(const RmsNorm& args, CpuStream) {
  dispatch_float(args.x.dtype, args.kName, [&]<class T>() { forward<T>(args); });
}

std::int64_t workspace_bytes(const RmsNormBackward& args, CpuStream) {
  return cpu::chunks_of(args.x.rows, args.x.cols).count * args.x.cols *
         static_cast<std::int64_t>(size_of(args.x.dtype));
}

void run(const RmsNormBackward& args, CpuStream) {
  dispatch_float(args.x.dtype, args.kName, [&]<class T>() { backward<T>(args); });
}

}  // namespace lamina::kernels
