// SPDX-License-Identifier: MIT
// Dropout on CUDA: a body for row_loop that makes its random words again instead of storing a mask.
#include "core/kernels/dropout.h"
#include "cuda_kernels/device/drop_mask.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

namespace lamina::kernels {
namespace {

template <class T, int kWidth>
struct DropoutBody {
  const T* x;
  T* y;
  std::int64_t x_stride, y_stride;
  std::int64_t cols;  // of the view before it was flattened into one row: the same numbering
  device::DropMask mask;
  bool accumulate;

  struct Row {
    const T* x;
    T* y;
    std::uint64_t first;  // number of the row's first element
  };

  __device__ Row row(std::int64_t row) const {
    return {x + row * x_stride, y + row * y_stride, static_cast<std::uint64_t>(row * cols)};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float values[kWidth];
    load_values(row.x + col, count, values);
    const std::uint64_t first = row.first + static_cast<std::uint64_t>(col);
    mask.apply(values, mask.kept<kWidth>(mask.offset(), first));
    write_values(row.y + col, count, values, accumulate);
  }
};

}  // namespace

void run(const Dropout& args, CudaStream stream) {
  if (args.write == GradWrite::skip) return;
  Rows x = args.x;
  Rows y = args.y;
  flatten({&x, &y});
  dispatch_cuda_float(x.dtype, Dropout::kName, [&]<class T>() {
    // A vector's elements share a Philox block, so the number of its first divides by its width.
    const bool aligned =
        are_vector_aligned({x, y}) && (x.rows <= 1 || x.cols % loop_width<T>() == 0);
    dispatch_width<loop_width<T>()>(aligned, [&]<int kWidth>() {
      const DropoutBody<T, kWidth> body{.x = x.as<const T>(),
                                        .y = y.as<T>(),
                                        .x_stride = x.stride,
                                        .y_stride = y.stride,
                                        .cols = x.cols,
                                        .mask = device::DropMask(args.p, args.key),
                                        .accumulate = args.write == GradWrite::accumulate};
      launch_row_loop<kWidth>(x.rows, x.cols, body, stream);
    });
  });
}

}  // namespace lamina::kernels
