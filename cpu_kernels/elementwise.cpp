// SPDX-License-Identifier: MIT
#include "core/kernels/elementwise.h"

#include "cpu_kernels/activation.h"
#include "cpu_kernels/parallel.h"
#include "cpu_kernels/sums.h"

#include <algorithm>

namespace lamina::kernels {
namespace {

/// y (+)= f(a, b), with b repeated every b.rows rows.
template <class Args, class F>
void binary(const Args& args, F f) {
  if (args.write == GradWrite::skip) return;
  Rows a = args.a, b = args.b, y = args.y;
  if (a.rows == b.rows) cpu::flatten(a, b, y);
  dispatch_float(y.dtype, args.kName, [&]<class T>() {
    cpu::parallel_segments(y.rows, y.cols,
                           [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                             const T* const from_a = cpu::row_of<T>(a, row);
                             const T* const from_b = cpu::row_of<T>(b, row % b.rows);
                             T* const to = cpu::row_of<T>(y, row);
                             const GradWrite write = args.write;
#pragma omp simd
                             for (std::int64_t c = begin; c < end; ++c) {
                               to[c] = cpu::written(write, to[c], f(from_a[c], from_b[c]));
                             }
                           });
  });
}

/// One row of dx; sums += what is written there, or added.
template <class T, class F>
void activation_backward_row(const ActivationBackward& args, F activation, std::int64_t row,
                             T* sums) {
  const T* const input = cpu::row_of<T>(args.x, row);
  const T* const from = cpu::row_of<T>(args.dy, row);
  T* const to = cpu::row_of<T>(args.dx, row);
  const GradWrite write = args.write;
#pragma omp simd
  for (std::int64_t c = 0; c < args.x.cols; ++c) {
    const T gradient = activation.slope(input[c]) * from[c];
    sums[c] += gradient;
    to[c] = cpu::written(write, to[c], gradient);
  }
}

template <class T, class F>
void activation_backward_columns(const ActivationBackward& args, F activation) {
  const std::int64_t cols = args.x.cols;
  const cpu::Chunks chunks = cpu::chunks_of(args.x.rows, cols);
  T* const partials = args.workspace.as<T>();  // [chunks, cols]
  cpu::parallel_for(chunks.count, [&](std::int64_t chunk) {
    T* const sums = partials + chunk * cols;
    std::fill_n(sums, cols, T{0});
    for (std::int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row)
      activation_backward_row<T>(args, activation, row, sums);
  });
  cpu::write_partials(partials, chunks.count, cols, args.column_sum, args.column_sum_write,
                      args.kName);
}

template <class T, class F>
void activation_backward(const ActivationBackward& args, F activation) {
  Rows x = args.x, dy = args.dy, dx = args.dx;
  cpu::flatten(x, dy, dx);
  cpu::parallel_segments(
      dx.rows, dx.cols, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
        const T* const input = cpu::row_of<T>(x, row);
        const T* const from = cpu::row_of<T>(dy, row);
        T* const to = cpu::row_of<T>(dx, row);
        const GradWrite write = args.write;
#pragma omp simd
        for (std::int64_t c = begin; c < end; ++c) {
          to[c] = cpu::written(write, to[c], activation.slope(input[c]) * from[c]);
        }
      });
}

}  // namespace

void run(const Add& args, CpuStream) {
  binary(args, [](auto a, auto b) { return a + b; });
}

void run(const Mul& args, CpuStream) {
  binary(args, [](auto a, auto b) { return a * b; });
}

void run(const Scale& args, CpuStream) {
  if (args.write == GradWrite::skip) return;
  Rows x = args.x, y = args.y;
  cpu::flatten(x, y);
  dispatch_float(x.dtype, args.kName, [&]<class From>() {
    dispatch_float(y.dtype, args.kName, [&]<class To>() {
      using Sum = std::common_type_t<From, To>;
      const Sum factor = static_cast<Sum>(args.factor);
      cpu::parallel_segments(
          y.rows, y.cols, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
            const From* const from = cpu::row_of<From>(x, row);
            To* const to = cpu::row_of<To>(y, row);
            const GradWrite write = args.write;
#pragma omp simd
            for (std::int64_t c = begin; c < end; ++c) {
              to[c] =
                  cpu::written(write, to[c], static_cast<To>(factor * static_cast<Sum>(from[c])));
            }
          });
    });
  });
}

void run(const Activation& args, CpuStream) {
  Rows x = args.x, y = args.y;
  cpu::flatten(x, y);
  dispatch_float(y.dtype, args.kName, [&]<class T>() {
    cpu::dispatch_activation(args.kind, [&](auto activation) {
      cpu::parallel_segments(y.rows, y.cols,
                             [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                               const T* const from = cpu::row_of<T>(x, row);
                               T* const to = cpu::row_of<T>(y, row);
#pragma omp simd
                               for (std::int64_t c = begin; c < end; ++c)
                                 to[c] = activation.value(from[c]);
                             });
    });
  });
}

std::int64_t workspace_bytes(const ActivationBackward& args, CpuStream) {
  if (!args.column_sum) return 0;
  return cpu::chunks_of(args.x.rows, args.x.cols).count * args.x.cols *
         static_cast<std::int64_t>(size_of(args.x.dtype));
}

void run(const ActivationBackward& args, CpuStream) {
  if (args.write == GradWrite::skip) return;
  dispatch_float(args.dx.dtype, args.kName, [&]<class T>() {
    cpu::dispatch_activation(args.kind, [&](auto activation) {
      if (args.column_sum) {
        activation_backward_columns<T>(args, activation);
      } else {
        activation_backward<T>(args, activation);
      }
    });
  });
}

}  // namespace lamina::kernels
