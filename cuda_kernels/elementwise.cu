// SPDX-License-Identifier: MIT
// Add, Mul, Scale and Activation on CUDA: bodies for row_loop. All are limited by memory, so
// each reads and writes 16 bytes per operand and thread at once.
#include "core/kernels/elementwise.h"
#include "cuda_kernels/device/activation.cuh"
#include "cuda_kernels/device/divisor.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

namespace lamina::kernels {
namespace {

template <class A, class B, bool kMultiply, int kWidth>
struct BinaryBody {
  const A* a;
  const B* b;
  A* y;
  std::int64_t a_stride, b_stride, y_stride;
  device::Divisor b_rows;
  bool accumulate;

  struct Row {
    const A* a;
    const B* b;
    A* y;
  };

  __device__ Row row(std::int64_t row) const {
    std::int64_t repeat = 0;
    std::int64_t b_row = 0;
    b_rows.divide(row, repeat, b_row);
    return {a + row * a_stride, b + b_row * b_stride, y + row * y_stride};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float left[kWidth];
    float right[kWidth];
    load_values(row.a + col, count, left);
    load_values(row.b + col, count, right);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      left[i] = kMultiply ? left[i] * right[i] : left[i] + right[i];
    }
    write_values(row.y + col, count, left, accumulate);
  }
};

template <bool kMultiply, class Args>
void run_binary(const Args& args, CudaStream stream) {
  if (args.write == GradWrite::skip || args.y.elements() == 0) return;
  Rows a = args.a;
  Rows b = args.b;
  Rows y = args.y;
  if (is_dense(a) && is_dense(b) && is_dense(y)) {  // b becomes one row, repeated
    const std::int64_t rows = a.rows / b.rows;
    const std::int64_t cols = b.elements();
    a = {a.data, rows, cols, cols, a.dtype};
    b = {b.data, 1, cols, cols, b.dtype};
    y = {y.data, rows, cols, cols, y.dtype};
  }
  const bool aligned = are_vector_aligned({a, b, y});
  dispatch_cuda_float(a.dtype, Args::kName, [&]<class A>() {
    const auto launch_with = [&]<class B>() {
      dispatch_width<loop_width<A>()>(aligned, [&]<int kWidth>() {
        const BinaryBody<A, B, kMultiply, kWidth> body{a.as<const A>(),
                                                       b.as<const B>(),
                                                       y.as<A>(),
                                                       a.stride,
                                                       b.stride,
                                                       y.stride,
                                                       device::Divisor(b.rows),
                                                       args.write == GradWrite::accumulate};
        launch_row_loop<kWidth>(a.rows, a.cols, body, stream);
      });
    };
    if (b.dtype == a.dtype) {
      launch_with.template operator()<A>();
    } else {
      launch_with.template operator()<float>();
    }
  });
}

template <class X, class Y, int kWidth>
struct ScaleBody {
  const X* x;
  Y* y;
  std::int64_t x_stride, y_stride;
  float factor;
  bool accumulate;

  struct Row {
    const X* x;
    Y* y;
  };

  __device__ Row row(std::int64_t row) const { return {x + row * x_stride, y + row * y_stride}; }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float values[kWidth];
    load_values(row.x + col, count, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      values[i] *= factor;
    write_values(row.y + col, count, values, accumulate);
  }
};

template <class T, ActivationKind kKind, int kWidth>
struct ActivationBody {
  const T* x;
  T* y;
  std::int64_t x_stride, y_stride;

  struct Row {
    const T* x;
    T* y;
  };

  __device__ Row row(std::int64_t row) const { return {x + row * x_stride, y + row * y_stride}; }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float values[kWidth];
    load_values(row.x + col, count, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      values[i] = device::activate<kKind>(values[i]);
    store_values(row.y + col, count, values);
  }
};

}  // namespace

void run(const Add& args, CudaStream stream) {
  run_binary<false>(args, stream);
}

void run(const Mul& args, CudaStream stream) {
  run_binary<true>(args, stream);
}

void run(const Scale& args, CudaStream stream) {
  if (args.write == GradWrite::skip) return;
  Rows x = args.x;
  Rows y = args.y;
  flatten({&x, &y});
  const bool aligned = are_vector_aligned({x, y});
  dispatch_cuda_float(x.dtype, Scale::kName, [&]<class X>() {
    dispatch_cuda_float(y.dtype, Scale::kName, [&]<class Y>() {
      dispatch_width<loop_width<X, Y>()>(aligned, [&]<int kWidth>() {
        const ScaleBody<X, Y, kWidth> body{x.as<const X>(),
                                           y.as<Y>(),
                                           x.stride,
                                           y.stride,
                                           static_cast<float>(args.factor),
                                           args.write == GradWrite::accumulate};
        launch_row_loop<kWidth>(x.rows, x.cols, body, stream);
      });
    });
  });
}

void run(const Activation& args, CudaStream stream) {
  Rows x = args.x;
  Rows y = args.y;
  flatten({&x, &y});
  const bool aligned = are_vector_aligned({x, y});
  dispatch_cuda_float(x.dtype, Activation::kName, [&]<class T>() {
    device::dispatch_activation(args.kind, [&]<ActivationKind kKind>() {
      dispatch_width<loop_width<T>()>(aligned, [&]<int kWidth>() {
        const ActivationBody<T, kKind, kWidth> body{x.as<const T>(), y.as<T>(), x.stride, y.stride};
        launch_row_loop<kWidth>(x.rows, x.cols, body, stream);
      });
    });
  });
}

}  // namespace lamina::kernels
