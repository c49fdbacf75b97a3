// SPDX-License-Identifier: MIT
// Softmax of one row, shared by softmax and attention.
#pragma once

#include "cpu_kernels/sums.h"
#include "cpu_kernels/vector_math.h"

#include <cmath>
#include <cstdint>

namespace lamina::kernels::cpu {

/// y = exp(x - max) / sum for n > 0 elements; y may be x. Returns log(sum(exp(x))).
template <class T>
T softmax_row(const T* x, std::int64_t n, T* y) {
  const T largest = lane_max(x, n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i)
    y[i] = exp_of(x[i] - largest);
  const T sum = lane_sum<T>(n, [&](std::int64_t i) { return y[i]; });
  const T factor = T{1} / sum;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i)
    y[i] *= factor;
  return largest + std::log(sum);
}

}  // namespace lamina::kernels::cpu
