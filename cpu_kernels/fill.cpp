// SPDX-License-Identifier: MIT
#include "core/kernels/fill.h"

#include "cpu_kernels/convert.h"
#include "cpu_kernels/parallel.h"

#include <algorithm>

namespace lamina::kernels {

void run(const Fill& args, CpuStream) {
  Rows y = args.y;
  cpu::flatten(y);
  dispatch_all(y.dtype, [&]<class T>() {
    const T value = cpu::convert<T>(args.value);
    cpu::parallel_segments(y.rows, y.cols,
                           [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                             T* const to = cpu::row_of<T>(y, row);
                             std::fill(to + begin, to + end, value);
                           });
  });
}

void run(const FillFromScalar& args, CpuStream) {
  if (args.write == GradWrite::skip) return;
  Rows y = args.y;
  cpu::flatten(y);
  dispatch_float(args.scalar.dtype, args.kName, [&]<class S>() {
    const double scaled = args.factor * static_cast<double>(*args.scalar.as<S>());
    dispatch_float(y.dtype, args.kName, [&]<class T>() {
      const T value = static_cast<T>(scaled);
      cpu::parallel_segments(y.rows, y.cols,
                             [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                               T* const to = cpu::row_of<T>(y, row);
                               if (args.write == GradWrite::overwrite) {
                                 std::fill(to + begin, to + end, value);
                               } else {
                                 for (std::int64_t c = begin; c < end; ++c)
                                   to[c] += value;
                               }
                             });
    });
  });
}

}  // namespace lamina::kernels
