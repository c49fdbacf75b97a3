// SPDX-License-Identifier: MIT
#include "core/kernels/softmax.h"

#include "cpu_kernels/softmax_row.h"
#include "cpu_kernels/sums.h"

#include <algorithm>

namespace lamina::kernels {

void run(const Softmax& args, CpuStream) {
  dispatch_float(args.y.dtype, args.kName, [&]<class T>() {
    const std::int64_t cols = args.y.cols;
    if (cols == 0) return;
    cpu::parallel_rows(args.y.rows, cols, [&](std::int64_t row) {
      T* const y = cpu::row_of<T>(args.y, row);
      const std::int64_t used = args.period > 0 ? std::min(cols, row % args.period + 1) : cols;
      cpu::softmax_row(cpu::row_of<T>(args.x, row), used, y);
      std::fill(y + used, y + cols, T{0});
    });
  });
}

void run(const SoftmaxBackward& args, CpuStream) {
  if (args.write == GradWrite::skip) return;
  dispatch_float(args.dx.dtype, args.kName, [&]<class T>() {
    const std::int64_t cols = args.dx.cols;
    cpu::parallel_rows(args.dx.rows, cols, [&](std::int64_t row) {
      const T* const y = cpu::row_of<T>(args.y, row);
      const T* const dy = cpu::row_of<T>(args.dy, row);
      T* const dx = cpu::row_of<T>(args.dx, row);
      const T dot = cpu::lane_sum<T>(cols, [&](std::int64_t c) { return dy[c] * y[c]; });
      const GradWrite write = args.write;
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) {
        dx[c] = cpu::written(write, dx[c], y[c] * (dy[c] - dot));
      }
    });
  });
}

}  // namespace lamina::kernels
