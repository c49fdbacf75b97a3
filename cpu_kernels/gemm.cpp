// SPDX-License-Identifier: MIT
#include "core/kernels/gemm.h"

#include "core/error.h"
#include "core/kernels/gemm_plans.h"
#include "core/text.h"
#include "cpu_kernels/activation.h"
#include "cpu_kernels/blas.h"
#include "cpu_kernels/parallel.h"
#include "cpu_kernels/parameters.h"

#include <algorithm>

namespace lamina::kernels {
namespace {

/// Tiles of d, each one BLAS call followed by bias and activation while it is in cache.
struct Tiles {
  std::int64_t rows = 256, cols = 512;  // 512 KiB of f32: stays in L2
  std::int64_t down = 0, across = 0;

  /// Halves the longer side until there are eight tiles to share. Below 64 a call spends more time
  /// on packing than on multiplying; below 2^20 multiplications one call is done before threads
  /// start.
  Tiles(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t batch) {
    constexpr std::int64_t kWanted = 8, kLeast = 64;
    rows = std::clamp(m, std::int64_t{1}, rows);
    cols = std::clamp(n, std::int64_t{1}, cols);
    const bool is_small = m * n * k < (std::int64_t{1} << 20U);
    while (!is_small && batch * cpu::divide_up(m, rows) * cpu::divide_up(n, cols) < kWanted &&
           std::max(rows, cols) > kLeast) {
      (rows >= cols ? rows : cols) = cpu::divide_up(std::max(rows, cols), 2);
    }
    down = cpu::divide_up(m, rows);
    across = cpu::divide_up(n, cols);
  }
};

/// Adds the bias and applies the activation to one tile.
template <class T>
void finish_tile(const Gemm& args, const T* bias, T* d, T* pre_activation, std::int64_t rows,
                 std::int64_t cols) {
  for (std::int64_t r = 0; r < rows; ++r, d += args.d.stride) {
    if (bias != nullptr) {
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c)
        d[c] += bias[c];
    }
    if (!args.has_activation) continue;
    if (pre_activation != nullptr) {
      std::copy_n(d, cols, pre_activation + r * args.pre_activation.stride);
    }
    cpu::dispatch_activation(args.activation, [&](auto activation) {
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c)
        d[c] = activation.value(d[c]);
    });
  }
}

template <class T>
void multiply(const Gemm& args) {
  const std::int64_t m = args.d.rows, n = args.d.cols, k = args.k();
  const Tiles tiles(m, n, k, args.batch);
  const std::vector<T> bias =
      args.bias ? cpu::parameters<T>(args.bias, n, T{0}, args.kName) : std::vector<T>();
  const T beta = args.write == GradWrite::accumulate ? T{1} : T{0};
  cpu::parallel_for(args.batch * tiles.down * tiles.across, [&](std::int64_t item) {
    const std::int64_t matrix = item / (tiles.down * tiles.across);
    const std::int64_t row = item / tiles.across % tiles.down * tiles.rows;
    const std::int64_t col = item % tiles.across * tiles.cols;
    const std::int64_t rows = std::min(tiles.rows, m - row), cols = std::min(tiles.cols, n - col);
    const T* const a = args.a.as<T>() + matrix * args.stride_a;
    const T* const b = args.b.as<T>() + matrix * args.stride_b;
    const std::int64_t at = matrix * args.stride_d + row * args.d.stride + col;
    T* const d = args.d.as<T>() + at;
    if (k > 0) {
      cpu::multiply(
          rows, cols, k, static_cast<T>(args.alpha),
          {a + (args.transpose_a ? row : row * args.a.stride), args.a.stride, args.transpose_a},
          {b + (args.transpose_b ? col * args.b.stride : col), args.b.stride, args.transpose_b},
          beta, d, args.d.stride);
    } else if (args.write == GradWrite::overwrite) {
      for (std::int64_t r = 0; r < rows; ++r)
        std::fill_n(d + r * args.d.stride, cols, T{0});
    }
    T* const pre_activation = args.pre_activation
                                  ? args.pre_activation.as<T>() + matrix * args.stride_d +
                                        row * args.pre_activation.stride + col
                                  : nullptr;
    finish_tile(args, bias.empty() ? nullptr : bias.data() + col, d, pre_activation, rows, cols);
  });
}

}  // namespace

std::int64_t workspace_bytes(const Gemm&, CpuStream) {
  return 0;
}

void run(const Gemm& args, CpuStream) {
  if (args.write == GradWrite::skip || args.d.elements() == 0) return;
  if (args.d.dtype != args.a.dtype) {
    throw DTypeError(cat("gemm: dtype of d is ", args.d.dtype, ", expected ", args.a.dtype,
                         " (the dtype of a, on the CPU)"));
  }
  cpu::use_one_blas_thread();
  dispatch_float(args.a.dtype, args.kName, [&]<class T>() { multiply<T>(args); });
}

std::string gemm_plans(CpuStream) {
  return {};
}

void load_gemm_plans(const std::string&, CpuStream) {}

std::string gemm_report(CpuStream) {
  return {};
}

}  // namespace lamina::kernels
