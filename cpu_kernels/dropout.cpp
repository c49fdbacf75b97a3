// SPDX-License-Identifier: MIT
#include "core/kernels/dropout.h"

#include "cpu_kernels/keep_mask.h"
#include "cpu_kernels/parallel.h"

namespace lamina::kernels {

void run(const Dropout& args, CpuStream) {
  if (args.write == GradWrite::skip) return;
  const cpu::KeepMask mask(args.key, args.p);
  Rows x = args.x, y = args.y;
  cpu::flatten(x, y);
  dispatch_float(y.dtype, args.kName, [&]<class T>() {
    cpu::parallel_segments(y.rows, y.cols,
                           [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                             const T* const from = cpu::row_of<T>(x, row);
                             T* const to = cpu::row_of<T>(y, row);
                             const GradWrite write = args.write;
                             T keep[cpu::kMaskBlock];
                             for (std::int64_t at = begin; at < end; at += cpu::kMaskBlock) {
                               const std::int64_t count = std::min(cpu::kMaskBlock, end - at);
                               mask.fill(row * y.cols + at, count, keep);
#pragma omp simd
                               for (std::int64_t c = 0; c < count; ++c) {
                                 // A dropped element is 0 whatever x is, infinity and NaN included.
                                 const T value = keep[c] > T{0} ? from[at + c] * keep[c] : T{0};
                                 to[at + c] = cpu::written(write, to[at + c], value);
                               }
                             }
                           });
  });
}

}  // namespace lamina::kernels
