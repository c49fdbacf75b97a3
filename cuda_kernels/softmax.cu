// SPDX-License-Identifier: MIT
// Softmax on CUDA, plain and causal, and its gradient. A warp takes a row of up to 1024 columns, a
// block of 256 threads a longer one. The second pass over the row hits the L1 cache, so memory sees
// one read and one write. Each thread writes only elements that it alone reads: outputs may alias.
#include "core/kernels/softmax.h"
#include "cuda_kernels/device/divisor.cuh"
#include "cuda_kernels/device/exp_sum.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

namespace lamina::kernels {
namespace {

constexpr int kWarpThreads = 128;  // four rows per block
constexpr int kBlockThreads = 256;
constexpr std::int64_t kWarpColumns = 1024;  // longest row of a warp
constexpr std::int64_t kMaxBlocks = 1 << 20;

/// Threads of a block whose rows belong to groups of kGroup threads.
template <int kGroup>
inline constexpr int kThreads = kGroup == device::kWarpSize ? kWarpThreads : kBlockThreads;

template <class T, int kGroup, int kWidth>
__global__ void __launch_bounds__(kThreads<kGroup>, 1024 / kThreads<kGroup>)
    softmax_rows(const T* x, T* y, std::int64_t rows, std::int64_t cols, std::int64_t x_stride,
                 std::int64_t y_stride, device::Divisor by_period, bool is_causal) {
  constexpr int kRows = kThreads<kGroup> / kGroup;
  const std::int64_t first = std::int64_t{threadIdx.x % kGroup} * kWidth;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kRows + threadIdx.x / kGroup; row < rows;
       row += std::int64_t{gridDim.x} * kRows) {
    const T* from = x + row * x_stride;
    T* to = y + row * y_stride;
    std::int64_t used = cols;
    if (is_causal) {
      std::int64_t matrix = 0;
      std::int64_t position = 0;
      by_period.divide(row, matrix, position);
      used = min(cols, position + 1);
    }
    device::ExpSum total;
    for (std::int64_t col = first; col < used; col += kGroup * kWidth) {
      float values[kWidth];
      load_values(from + col, static_cast<int>(min(used - col, std::int64_t{kWidth})), values,
                  -__builtin_huge_valf());
      total.add(values);
    }
    total.combine<kGroup>();
    const float factor = 1.0F / total.sum;
    for (std::int64_t col = first; col < cols; col += kGroup * kWidth) {
      const auto present = static_cast<int>(min(used - col, std::int64_t{kWidth}));
      float values[kWidth];
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] = 0.0F;
      if (present > 0) {
        load_values(from + col, present, values);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          values[i] =
              i < present
                  ? factor * device::exp2_fast(fmaf(values[i], device::kLog2E, -total.reference))
                  : 0.0F;
        }
      }
      store_values(to + col, static_cast<int>(min(cols - col, std::int64_t{kWidth})), values);
    }
  }
}

template <class T, int kGroup, int kWidth>
__global__ void __launch_bounds__(kThreads<kGroup>, 1024 / kThreads<kGroup>)
    softmax_backward_rows(const T* y, const T* dy, T* dx, std::int64_t rows, std::int64_t cols,
                          std::int64_t y_stride, std::int64_t dy_stride, std::int64_t dx_stride,
                          bool accumulate) {
  constexpr int kRows = kThreads<kGroup> / kGroup;
  const std::int64_t first = std::int64_t{threadIdx.x % kGroup} * kWidth;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kRows + threadIdx.x / kGroup; row < rows;
       row += std::int64_t{gridDim.x} * kRows) {
    const T* output = y + row * y_stride;
    const T* gradient = dy + row * dy_stride;
    T* to = dx + row * dx_stride;
    float dot = 0.0F;
    for (std::int64_t col = first; col < cols; col += kGroup * kWidth) {
      const auto count = static_cast<int>(min(cols - col, std::int64_t{kWidth}));
      float values[kWidth];
      float slopes[kWidth];
      load_values(output + col, count, values);
      load_values(gradient + col, count, slopes);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        dot = fmaf(values[i], slopes[i], dot);
    }
    dot = kGroup == device::kWarpSize ? device::warp_sum(dot) : device::block_sum(dot);
    for (std::int64_t col = first; col < cols; col += kGroup * kWidth) {
      const auto count = static_cast<int>(min(cols - col, std::int64_t{kWidth}));
      float values[kWidth];
      float slopes[kWidth];
      load_values(output + col, count, values);
      load_values(gradient + col, count, slopes);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] *= slopes[i] - dot;
      write_values(to + col, count, values, accumulate);
    }
  }
}

/// Calls f.operator()<kGroup>(blocks) for rows of `cols` elements.
template <class F>
void dispatch_group(std::int64_t rows, std::int64_t cols, F&& f) {
  if (rows <= 0 || cols <= 0) return;
  if (cols <= kWarpColumns) {
    constexpr std::int64_t kRows = kWarpThreads / device::kWarpSize;
    f.template operator()<device::kWarpSize>(
        static_cast<unsigned>(std::min((rows + kRows - 1) / kRows, kMaxBlocks)));
  } else {
    f.template operator()<kBlockThreads>(static_cast<unsigned>(std::min(rows, kMaxBlocks)));
  }
}

}  // namespace

void run(const Softmax& args, CudaStream stream) {
  const Rows& x = args.x;
  const Rows& y = args.y;
  const bool is_causal = args.period > 0;
  const device::Divisor by_period(is_causal ? args.period : 1);
  dispatch_cuda_float(x.dtype, Softmax::kName, [&]<class T>() {
    dispatch_group(x.rows, x.cols, [&]<int kGroup>(unsigned blocks) {
      dispatch_width<loop_width<T>()>(are_vector_aligned({x, y}), [&]<int kWidth>() {
        softmax_rows<T, kGroup, kWidth><<<blocks, kThreads<kGroup>, 0, stream.handle>>>(
            x.as<const T>(), y.as<T>(), x.rows, x.cols, x.stride, y.stride, by_period, is_causal);
      });
    });
  });
}

void run(const SoftmaxBackward& args, CudaStream stream) {
  if (args.write == GradWrite::skip) return;
  const Rows& y = args.y;
  const Rows& dy = args.dy;
  const Rows& dx = args.dx;
  dispatch_cuda_float(y.dtype, SoftmaxBackward::kName, [&]<class T>() {
    dispatch_group(y.rows, y.cols, [&]<int kGroup>(unsigned blocks) {
      dispatch_width<loop_width<T>()>(are_vector_aligned({y, dy, dx}), [&]<int kWidth>() {
        softmax_backward_rows<T, kGroup, kWidth><<<blocks, kThreads<kGroup>, 0, stream.handle>>>(
            y.as<const T>(), dy.as<const T>(), dx.as<T>(), y.rows, y.cols, y.stride, dy.stride,
            dx.stride, args.write == GradWrite::accumulate);
      });
    });
  });
}

}  // namespace lamina::kernels
