// SPDX-License-Identifier: MIT
// CBLAS for float and double under one name. A call runs in one thread; callers split the work, so
// that results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cblas.h>
#include <cstdint>

// Also declared by OpenBLAS itself, but not weak. NOLINTNEXTLINE(readability-redundant-declaration)
extern "C" void openblas_set_num_threads(int count) __attribute__((weak));

namespace lamina::kernels::cpu {

/// Keeps OpenBLAS from starting threads of its own; nothing with another CBLAS.
inline void use_one_blas_thread() {
  [[maybe_unused]] static const bool kOnce = [] {
    if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
    return true;
  }();
}

/// A row-major operand: element (i, j) at data[i * stride + j], or (j, i) when transposed.
template <class T>
struct Operand {
  const T* data;
  std::int64_t stride;
  bool transposed = false;
};

namespace detail {
template <class T, class Call>
void call_blas(const Call& call, std::int64_t m, std::int64_t n, std::int64_t k, T alpha,
               const Operand<T>& a, const Operand<T>& b, T beta, T* d, std::int64_t stride_d) {
  // BLAS checks the strides even where there is a single row, whose stride means nothing.
  const auto stride = [](std::int64_t given, std::int64_t cols) {
    return static_cast<int>(std::max({given, cols, std::int64_t{1}}));
  };
  call(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
       b.transposed ? CblasTrans : CblasNoTrans, static_cast<int>(m), static_cast<int>(n),
       static_cast<int>(k), alpha, a.data, stride(a.stride, a.transposed ? m : k), b.data,
       stride(b.stride, b.transposed ? k : n), beta, d, stride(stride_d, n));
}
}  // namespace detail

/// d[m, n] = alpha * a[m, k] b[k, n] + beta * d; d is not read when beta is 0.
inline void multiply(std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
                     const Operand<float>& a, const Operand<float>& b, float beta, float* d,
                     std::int64_t stride_d) {
  detail::call_blas(cblas_sgemm, m, n, k, alpha, a, b, beta, d, stride_d);
}

inline void multiply(std::int64_t m, std::int64_t n, std::int64_t k, double alpha,
                     const Operand<double>& a, const Operand<double>& b, double beta, double* d,
                     std::int64_t stride_d) {
  detail::call_blas(cblas_dgemm, m, n, k, alpha, a, b, beta, d, stride_d);
}

}  // namespace lamina::kernels::cpu
