// SPDX-License-Identifier: MIT
#include "core/cuda/check.h"
#include "cuda_kernels/device/activation.cuh"
#include "cuda_kernels/device/vector.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/gemm_epilogue.h"

#include <type_traits>

namespace lamina::kernels {
namespace {

using device::load_pack;
using device::Pack;
using device::store_pack;

constexpr int kThreads = 128;
constexpr int kRowsPerThread =
    4;  // four independent 16-byte loads in flight; the bias is read once

/// The views of one GemmEpilogue. Strides are in elements.
template <class T, class BiasT>
struct Operands {
  const T* product;   // [matrices, rows, cols]
  const BiasT* bias;  // [cols], or null
  T* pre_activation;  // [matrices, rows, cols], or null
  T* d;               // [matrices, rows, cols]
  std::int64_t rows, cols, matrix_stride;
  std::int64_t product_stride, pre_activation_stride, d_stride;
  unsigned column_blocks;  // blocks next to each other in a row
};

/// One block: kThreads * kWidth columns of kRowsPerThread rows of matrix blockIdx.y. The operands
/// may be the same memory: each element is read before it is written, by the same thread.
template <class T, class BiasT, int kWidth, class Activation>
__global__ void __launch_bounds__(kThreads)
    gemm_epilogue(Operands<T, BiasT> operands, Activation activation) {
  const std::int64_t col =
      (static_cast<std::int64_t>(blockIdx.x % operands.column_blocks) * kThreads + threadIdx.x) *
      kWidth;
  if (col >= operands.cols) return;
  const std::int64_t first_row =
      static_cast<std::int64_t>(blockIdx.x / operands.column_blocks) * kRowsPerThread;
  const std::int64_t matrix = static_cast<std::int64_t>(blockIdx.y) * operands.matrix_stride;

  float bias[kWidth] = {};
  if (operands.bias) {
    // A bias of 4-byte elements beside 2-byte ones fills two 16-byte loads.
    constexpr int kPiece = kWidth == 1 ? 1 : 16 / static_cast<int>(sizeof(BiasT));
    constexpr int kUsed = kPiece < kWidth ? kPiece : kWidth;
#pragma unroll
    for (int i = 0; i < kWidth; i += kUsed) {
      const Pack<BiasT, kUsed> piece = load_pack<kUsed>(operands.bias + col + i);
#pragma unroll
      for (int j = 0; j < kUsed; ++j)
        bias[i + j] = piece.at(j);
    }
  }

  Pack<T, kWidth> values[kRowsPerThread];
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r) {
    const std::int64_t row = first_row + r;
    if (row < operands.rows) {
      values[r] =
          load_pack<kWidth>(operands.product + matrix + row * operands.product_stride + col);
    }
  }
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r) {
    const std::int64_t row = first_row + r;
    if (row >= operands.rows) return;
    Pack<T, kWidth> sum, result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float value = values[r].at(i) + bias[i];
      sum.set(i, value);
      result.set(i, activation(value));
    }
    if (operands.pre_activation) {
      store_pack(operands.pre_activation + matrix + row * operands.pre_activation_stride + col,
                 sum);
    }
    store_pack(operands.d + matrix + row * operands.d_stride + col, result);
  }
}

struct Identity {
  __device__ __forceinline__ float operator()(float x) const { return x; }
};

template <ActivationKind kKind>
struct Activate {
  __device__ __forceinline__ float operator()(float x) const { return device::activate<kKind>(x); }
};

template <class F>
void dispatch_epilogue(const GemmEpilogue& args, F&& launch) {
  if (!args.has_activation) return launch(Identity{});
  device::dispatch_activation(args.activation,
                              [&]<ActivationKind kKind>() { launch(Activate<kKind>{}); });
}

bool is_vectorisable(const GemmEpilogue& args, int width) {
  const auto element = static_cast<std::int64_t>(size_of(args.d.dtype));
  const auto aligned = [&](const Rows& view) {
    return device::is_vector_aligned(view.data, view.stride, element);
  };
  return args.d.cols % width == 0 && aligned(args.product) && aligned(args.pre_activation) &&
         aligned(args.d) && device::is_vector_aligned(args.bias.data) &&
         (args.batch == 1 || args.stride * element % 16 == 0);
}

template <class T, class BiasT, int kWidth>
void launch_epilogue(const GemmEpilogue& args, CudaStream stream) {
  constexpr std::int64_t kColumns = kThreads * kWidth;
  const auto column_blocks = (args.d.cols + kColumns - 1) / kColumns;
  const auto row_blocks = (args.d.rows + kRowsPerThread - 1) / kRowsPerThread;
  // The product needs no second write when there is nothing to add to it.
  const bool writes_sum =
      args.pre_activation && (args.bias || args.pre_activation.data != args.product.data);
  const Operands<T, BiasT> operands{
      .product = args.product.as<const T>(),
      .bias = args.bias.as<const BiasT>(),
      .pre_activation = writes_sum ? args.pre_activation.as<T>() : nullptr,
      .d = args.d.as<T>(),
      .rows = args.d.rows,
      .cols = args.d.cols,
      .matrix_stride = args.stride,
      .product_stride = args.product.stride,
      .pre_activation_stride = args.pre_activation.stride,
      .d_stride = args.d.stride,
      .column_blocks = static_cast<unsigned>(column_blocks)};
  const dim3 grid(static_cast<unsigned>(column_blocks * row_blocks),
                  static_cast<unsigned>(args.batch));
  dispatch_epilogue(args, [&](auto activation) {
    gemm_epilogue<T, BiasT, kWidth><<<grid, kThreads, 0, stream.handle>>>(operands, activation);
  });
  LAMINA_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void run(const GemmEpilogue& args, CudaStream stream) {
  dispatch_cuda_float(args.d.dtype, "gemm", [&]<class T>() {
    const auto launch = [&]<class BiasT>() {
      constexpr int kWidth = device::kVectorWidth<T>;
      if (is_vectorisable(args, kWidth)) {
        launch_epilogue<T, BiasT, kWidth>(args, stream);
      } else {
        launch_epilogue<T, BiasT, 1>(args, stream);
      }
    };
    if (!args.bias || args.bias.dtype == args.d.dtype) {
      launch.template operator()<T>();
    } else if constexpr (std::is_same_v<T, float>) {
      dispatch_cuda_float(args.bias.dtype, "gemm", launch);
    } else {
      launch.template operator()<float>();
    }
  });
}

}  // namespace lamina::kernels
