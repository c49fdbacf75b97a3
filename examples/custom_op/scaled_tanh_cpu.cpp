// SPDX-License-Identifier: MIT
// The CPU kernels: f32, and f64 for gradient checks.
#include "examples/custom_op/scaled_tanh.h"

#include <cmath>

namespace custom {

void run(const ScaledTanh& args, lamina::CpuStream /*stream*/) {
  lamina::dispatch_float(args.x.dtype, args.kName, [&]<class T>() {
    const T* const x = args.x.as<T>();
    T* const y = args.y.as<T>();
    const T scale = static_cast<T>(args.scale);
    for (std::int64_t i = 0; i < args.x.size; ++i)
      y[i] = std::tanh(scale * x[i]);
  });
}

void run(const ScaledTanhBackward& args, lamina::CpuStream /*stream*/) {
  if (args.write == lamina::GradWrite::skip) return;
  lamina::dispatch_float(args.y.dtype, args.kName, [&]<class T>() {
    const T* const y = args.y.as<T>();
    const T* const dy = args.dy.as<T>();
    T* const dx = args.dx.as<T>();
    const T scale = static_cast<T>(args.scale);
    const bool adds = args.write == lamina::GradWrite::accumulate;
    for (std::int64_t i = 0; i < args.y.size; ++i) {
      dx[i] = (adds ? dx[i] : T{0}) + scale * (T{1} - y[i] * y[i]) * dy[i];
    }
  });
}

}  // namespace custom
