// SPDX-License-Identifier: MIT
// ActivationBackward on CUDA. Without a column sum it is a body for row_loop. With one, a block
// walks down a strip of columns and adds up what it writes: the sum costs no read of dx. The grid
// is one wave of the device's multiprocessors: with several, the last one leaves most of them idle.
#include "core/device.h"
#include "core/kernels/elementwise.h"
#include "cuda_kernels/column_partials.cuh"
#include "cuda_kernels/device/activation.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

#include <algorithm>

namespace lamina::kernels {
namespace {

using device::from_floats;
using device::Keep;
using device::load_pack_if;
using device::Pack;
using device::store_pack_if;
using device::to_floats;

constexpr int kRowsInFlight = 2;  // of a thread: 64 B are on their way before the first use
constexpr int kBlocksPerSm = 4;
constexpr std::int64_t kLeastRows = 64;  // of a block: partial sums are some 2 % of the traffic
constexpr std::int64_t kRowsAtOnce = kRowsInFlight * kColumnSlices;  // of a block

/// The views of one call. Strides are in elements.
template <class T>
struct Operands {
  const T* x;   // [rows, cols]
  const T* dy;  // [rows, cols]
  T* dx;        // [rows, cols], may be dy
  std::int64_t rows, cols, x_stride, dy_stride, dx_stride;
  bool accumulate;
};

template <class T>
Operands<T> operands_of(const Rows& x, const Rows& dy, const Rows& dx, GradWrite write) {
  return {x.as<const T>(), dy.as<const T>(), dx.as<T>(),
          x.rows,          x.cols,           x.stride,
          dy.stride,       dx.stride,        write == GradWrite::accumulate};
}

template <class T, ActivationKind kKind, int kWidth>
struct Body {
  Operands<T> operands;

  struct Row {
    const T* x;
    const T* dy;
    T* dx;
  };

  __device__ Row row(std::int64_t row) const {
    return {operands.x + row * operands.x_stride, operands.dy + row * operands.dy_stride,
            operands.dx + row * operands.dx_stride};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float values[kWidth];
    float gradient[kWidth];
    load_values(row.x + col, count, values);
    load_values(row.dy + col, count, gradient);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      gradient[i] *= device::slope<kKind>(values[i]);
    write_values(row.dx + col, count, gradient, operands.accumulate);
  }
};

/// Block (x, y) takes kColumnLanes * kWidth columns of the rows of split y; its sums go to row y of
/// `parts`, [splits, pitch]. kWidth divides the columns.
template <class T, ActivationKind kKind, int kWidth>
__global__ void __launch_bounds__(kColumnThreads, kBlocksPerSm)
    activation_backward_columns(const Operands<T> operands, float* __restrict__ parts,
                                const std::int64_t rows_per_split, const std::int64_t pitch) {
  __shared__ float shared[kColumnSlices][kWidth][kColumnLanes];  // lanes last: no bank conflicts
  const int lane = static_cast<int>(threadIdx.x) % kColumnLanes;
  const int slice = static_cast<int>(threadIdx.x) / kColumnLanes;
  const std::int64_t col = (std::int64_t{blockIdx.x} * kColumnLanes + lane) * kWidth;
  const bool is_inside = col < operands.cols;
  const std::int64_t first = blockIdx.y * rows_per_split + slice;
  const std::int64_t end = min((blockIdx.y + 1) * rows_per_split, operands.rows);
  const T* from_x = operands.x + first * operands.x_stride + col;
  const T* from_dy = operands.dy + first * operands.dy_stride + col;
  T* to = operands.dx + first * operands.dx_stride + col;
  const std::int64_t x_step = kColumnSlices * operands.x_stride;
  const std::int64_t dy_step = kColumnSlices * operands.dy_stride;
  const std::int64_t dx_step = kColumnSlices * operands.dx_stride;
  float sum[kWidth] = {};
  // kRowsInFlight rows at a time, kColumnSlices apart; more would not fit the registers.
#pragma unroll 1
  for (auto left = is_inside ? static_cast<int>(end - first) : 0; left > 0;
       left -= kRowsInFlight * kColumnSlices) {
    Pack<T, kWidth> x[kRowsInFlight];
    Pack<T, kWidth> dy[kRowsInFlight];
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {  // rows behind the end are zeros
      x[r] = load_pack_if<kWidth, Keep::in_order>(from_x, r * kColumnSlices < left);
      dy[r] = load_pack_if<kWidth, Keep::in_order>(from_dy, r * kColumnSlices < left);
      from_x += x_step;
      from_dy += dy_step;
    }
#pragma unroll
    for (int r = 0; r < kRowsInFlight; ++r) {
      const bool is_valid = r * kColumnSlices < left;
      float values[kWidth];
      float gradient[kWidth];
      to_floats(x[r], values);
      to_floats(dy[r], gradient);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        gradient[i] *= device::slope<kKind>(values[i]);
        sum[i] += gradient[i];
      }
      if (operands.accumulate) {
        to_floats(load_pack_if<kWidth, Keep::in_order>(to, is_valid), values);
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          gradient[i] += values[i];
      }
      store_pack_if(to, from_floats<T>(gradient), is_valid);
      to += dx_step;
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    shared[slice][i][lane] = sum[i];
  __syncthreads();
  if (slice != 0 || !is_inside) return;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
#pragma unroll
    for (int k = 1; k < kColumnSlices; ++k)
      sum[i] += shared[k][i][lane];
  }
  store_values(parts + blockIdx.y * pitch + col, kWidth, sum);
}

/// How the rows are shared among blocks.
struct Splits {
  std::int64_t count, rows;  // rows of each
  std::int64_t pitch;        // floats of a row of partial sums, a multiple of 4
};

Splits splits_of(const Rows& x, CudaStream stream) {
  // From the shape even when x is not aligned: the order of the sums must not depend on addresses.
  const std::int64_t width = kColumnLanes * 16 / static_cast<std::int64_t>(size_of(x.dtype));
  const std::int64_t strips = std::max<std::int64_t>((x.cols + width - 1) / width, 1);
  const std::int64_t most = std::max<std::int64_t>((x.rows + kLeastRows - 1) / kLeastRows, 1);
  const std::int64_t wave =
      kBlocksPerSm * device_info({DeviceKind::cuda, stream.device}).multiprocessors;
  const std::int64_t wanted = std::clamp<std::int64_t>(wave / strips, 1, most);
  const std::int64_t share = std::max<std::int64_t>((x.rows + wanted - 1) / wanted, 1);
  const std::int64_t rows = (share + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce;
  const std::int64_t count = std::max<std::int64_t>((x.rows + rows - 1) / rows, 1);
  return {.count = count, .rows = rows, .pitch = (x.cols + 3) / 4 * 4};
}

template <class T, ActivationKind kKind>
void run_with_column_sum(const ActivationBackward& args, CudaStream stream) {
  const Splits splits = splits_of(args.x, stream);
  auto* const parts = args.workspace.as<float>();
  const bool has_vectors =
      args.x.cols % loop_width<T>() == 0 && are_vector_aligned({args.x, args.dy, args.dx});
  dispatch_width<loop_width<T>()>(has_vectors, [&]<int kWidth>() {
    constexpr std::int64_t kColumns = std::int64_t{kColumnLanes} * kWidth;
    const dim3 grid(static_cast<unsigned>((args.x.cols + kColumns - 1) / kColumns),
                    static_cast<unsigned>(splits.count));
    activation_backward_columns<T, kKind, kWidth><<<grid, kColumnThreads, 0, stream.handle>>>(
        operands_of<T>(args.x, args.dy, args.dx, args.write), parts, splits.rows, splits.pitch);
  });
  launch_add_splits(parts, args.column_sum.as<float>(), splits.count, 1, args.x.cols, splits.pitch,
                    splits.pitch, args.column_sum_write == GradWrite::accumulate, stream);
}

template <class T, ActivationKind kKind>
void run_alone(const ActivationBackward& args, CudaStream stream) {
  Rows x = args.x;
  Rows dy = args.dy;
  Rows dx = args.dx;
  flatten({&x, &dy, &dx});
  dispatch_width<loop_width<T>()>(are_vector_aligned({x, dy, dx}), [&]<int kWidth>() {
    const Body<T, kKind, kWidth> body{operands_of<T>(x, dy, dx, args.write)};
    launch_row_loop<kWidth>(x.rows, x.cols, body, stream);
  });
}

bool wants_column_sum(const ActivationBackward& args) {
  return args.column_sum && args.column_sum_write != GradWrite::skip && args.x.cols > 0;
}

}  // namespace

std::int64_t workspace_bytes(const ActivationBackward& args, CudaStream stream) {
  if (!wants_column_sum(args)) return 0;
  const Splits splits = splits_of(args.x, stream);
  return splits.count * splits.pitch * static_cast<std::int64_t>(sizeof(float));
}

void run(const ActivationBackward& args, CudaStream stream) {
  if (args.write == GradWrite::skip) return;
  dispatch_cuda_float(args.x.dtype, ActivationBackward::kName, [&]<class T>() {
    device::dispatch_activation(args.kind, [&]<ActivationKind kKind>() {
      if (wants_column_sum(args)) {
        run_with_column_sum<T, kKind>(args, stream);
      } else {
        run_alone<T, kKind>(args, stream);
      }
    });
  });
}

}  // namespace lamina::kernels
