// SPDX-License-Identifier: MIT
// What takes the time of such a product is to read b once. A block has 8 rows of b, the columns of
// d, and its warps have every other chunk of k: each lane has all its reads on their way at once.
// While the kernel before ends, the rows of b are already fetched into the L2 cache, where all
// writes go, so that nothing old is read. The warps' sums are added in a fixed order.
#include "core/cuda/check.h"
#include "cuda_kernels/device/activation.cuh"
#include "cuda_kernels/device/mma.cuh"
#include "cuda_kernels/device/vector.cuh"
#include "cuda_kernels/device/warp.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/gemm_few_rows.h"
#include "cuda_kernels/launch_kernel.cuh"

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace lamina::kernels {
namespace {

constexpr int kMaxRows = 8;   // of a: mma's m16 with the upper half empty
constexpr int kTileCols = 8;  // of d: mma's n8
constexpr int kPack = 8;      // elements of 16 bytes
constexpr int kChunk = 32;    // elements of k that four lanes read of a row at once
constexpr int kInFlight = 6;  // chunks of a warp
constexpr int kMaxWarps = 16;
constexpr int kLineBytes = 128;

template <class T, class D>
struct Operands {
  const T *a, *b;
  D *d, *pre_activation;  // the latter may be null
  const void* bias;       // T or float; may be null
  bool has_f32_bias, has_activation;
  ActivationKind activation;
  int m;
  std::int64_t n, k, a_stride, b_stride, d_stride, pre_activation_stride;
  float alpha;
};

/// Fetches the block's rows of b into L2.
template <class T, class D>
__device__ __forceinline__ void prefetch_b(const Operands<T, D>& in, std::int64_t first_col) {
  const auto row_bytes = in.k * static_cast<std::int64_t>(sizeof(T));
  const auto lines = static_cast<int>((row_bytes + kLineBytes - 1) / kLineBytes);
  for (int i = static_cast<int>(threadIdx.x); i < lines * kTileCols;
       i += static_cast<int>(blockDim.x)) {
    const std::int64_t col = first_col + i / lines;
    if (col >= in.n) return;
    const auto* const row = reinterpret_cast<const char*>(in.b + col * in.b_stride);
    asm volatile("prefetch.global.L2 [%0];" ::"l"(row + std::int64_t{i % lines} * kLineBytes));
  }
}

template <class T, class D>
__global__ void __launch_bounds__(kMaxWarps* device::kWarpSize) few_rows(Operands<T, D> in) {
  using device::Keep;
  using Pack = device::Pack<T, kPack>;
  __shared__ float sums[kMaxWarps][kMaxRows * kTileCols];
  const std::int64_t first_col = std::int64_t{blockIdx.x} * kTileCols;
  prefetch_b(in, first_col);
  wait_for_previous_kernel();
  start_next_kernel();

  const int lane = static_cast<int>(threadIdx.x) % device::kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / device::kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / device::kWarpSize;
  const int group = lane / 4;  // row of a, row of b
  const bool has_row = group < in.m, has_col = first_col + group < in.n;
  const T* const a = in.a + group * in.a_stride;
  const T* const b = in.b + (first_col + group) * in.b_stride;
  float sum[2][4] = {};
  for (std::int64_t first = warp; first * kChunk < in.k; first += warps * kInFlight) {
    Pack of_a[kInFlight], of_b[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const std::int64_t at = (first + i * warps) * kChunk + lane % 4 * kPack;
      of_b[i] = device::load_pack_if<kPack, Keep::streamed>(b + at, has_col && at < in.k);
      of_a[i] = device::load_pack_if<kPack, Keep::in_order>(a + at, has_row && at < in.k);
    }
    __syncwarp();  // or ptxas puts each read before its use, one on its way at a time
    // Which k an element stands for is the same in a and b; mma adds them in any order.
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      std::uint32_t x[4], y[4];
      __builtin_memcpy(x, &of_a[i], sizeof(x));
      __builtin_memcpy(y, &of_b[i], sizeof(y));
      device::mma_m16n8k16<T>(sum[0], {x[0], 0U, x[1], 0U}, y[0], y[1]);
      device::mma_m16n8k16<T>(sum[1], {x[2], 0U, x[3], 0U}, y[2], y[3]);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i)
    sums[warp][group * kTileCols + lane % 4 * 2 + i] = sum[0][i] + sum[1][i];
  __syncthreads();

  for (int i = static_cast<int>(threadIdx.x); i < in.m * kTileCols;
       i += static_cast<int>(blockDim.x)) {
    const int row = i / kTileCols;
    const std::int64_t col = first_col + i % kTileCols;
    if (col >= in.n) continue;
    float value = 0.0F;
    for (int w = 0; w < warps; ++w)
      value += sums[w][i];
    value *= in.alpha;
    if (in.bias != nullptr) {
      value += in.has_f32_bias ? static_cast<const float*>(in.bias)[col]
                               : device::to_float(static_cast<const T*>(in.bias)[col]);
    }
    if (in.pre_activation != nullptr) {
      in.pre_activation[row * in.pre_activation_stride + col] = device::from_float<D>(value);
    }
    if (in.has_activation) value = device::activate(in.activation, value);
    in.d[row * in.d_stride + col] = device::from_float<D>(value);
  }
}

template <class T, class D>
void launch_few_rows(const Gemm& args, CudaStream stream) {
  const Operands<T, D> in{.a = args.a.as<const T>(),
                          .b = args.b.as<const T>(),
                          .d = args.d.as<D>(),
                          .pre_activation = args.pre_activation.as<D>(),
                          .bias = args.bias.data,
                          .has_f32_bias = args.bias.dtype == DType::f32,
                          .has_activation = args.has_activation,
                          .activation = args.activation,
                          .m = static_cast<int>(args.d.rows),
                          .n = args.d.cols,
                          .k = args.k(),
                          .a_stride = args.a.stride,
                          .b_stride = args.b.stride,
                          .d_stride = args.d.stride,
                          .pre_activation_stride = args.pre_activation.stride,
                          .alpha = args.alpha};
  constexpr std::int64_t kOfAWarp = kChunk * kInFlight;
  const std::int64_t warps = std::min<std::int64_t>((in.k + kOfAWarp - 1) / kOfAWarp, kMaxWarps);
  launch_kernel(few_rows<T, D>,
                {.grid = dim3(static_cast<unsigned>((in.n + kTileCols - 1) / kTileCols)),
                 .block = dim3(static_cast<unsigned>(warps * device::kWarpSize))},
                stream, in);
}

}  // namespace

bool has_few_rows(const Gemm& args) {
  const auto is_aligned = [](const Rows& view) {
    return device::is_vector_aligned(view.data, view.stride,
                                     static_cast<std::int64_t>(size_of(view.dtype)));
  };
  const bool is_16_bit = args.a.dtype == DType::f16 || args.a.dtype == DType::bf16;
  return is_16_bit && args.d.rows <= kMaxRows && args.batch == 1 && !args.transpose_a &&
         args.transpose_b && args.write == GradWrite::overwrite && args.k() % kPack == 0 &&
         is_aligned(args.a) && is_aligned(args.b);
}

void run_few_rows(const Gemm& args, CudaStream stream) {
  dispatch_cuda_float(args.a.dtype, Gemm::kName, [&]<class T>() {
    if constexpr (sizeof(T) == 2) {
      args.d.dtype == DType::f32 ? launch_few_rows<T, float>(args, stream)
                                 : launch_few_rows<T, T>(args, stream);
    }
  });
}

}  // namespace lamina::kernels
