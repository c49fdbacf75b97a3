// SPDX-License-Identifier: MIT
// The CUDA kernels: f32, f16 and bf16, computed in f32 and rounded once.
#include "core/text.h"
#include "examples/custom_op/scaled_tanh.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

namespace custom {

namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void scaled_tanh_kernel(const T* __restrict__ x, T* __restrict__ y, std::int64_t size,
                                   float scale) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += step) {
    y[i] = static_cast<T>(tanhf(scale * static_cast<float>(x[i])));
  }
}

template <class T>
__global__ void scaled_tanh_backward_kernel(const T* __restrict__ y, const T* __restrict__ dy,
                                            T* __restrict__ dx, std::int64_t size, float scale,
                                            bool adds) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < size; i += step) {
    const float value = static_cast<float>(y[i]);
    const float before = adds ? static_cast<float>(dx[i]) : 0.0F;
    dx[i] = static_cast<T>(before + scale * (1.0F - value * value) * static_cast<float>(dy[i]));
  }
}

unsigned blocks_for(std::int64_t size) {
  constexpr std::int64_t kMaxBlocks = 4096;  // more elements are looped over
  return static_cast<unsigned>(
      std::clamp<std::int64_t>((size + kThreads - 1) / kThreads, 1, kMaxBlocks));
}

template <class F>
void dispatch(lamina::DType dtype, std::string_view op, F&& f) {
  switch (dtype) {
    case lamina::DType::f32:
      return f.template operator()<float>();
    case lamina::DType::f16:
      return f.template operator()<__half>();
    case lamina::DType::bf16:
      return f.template operator()<__nv_bfloat16>();
    default:
      throw lamina::DTypeError(
          lamina::cat(op, ": dtype is ", dtype, ", expected f32, f16 or bf16 (on CUDA)"));
  }
}

}  // namespace

void run(const ScaledTanh& args, lamina::CudaStream stream) {
  dispatch(args.x.dtype, args.kName, [&]<class T>() {
    scaled_tanh_kernel<<<blocks_for(args.x.size), kThreads, 0, stream.handle>>>(
        args.x.as<const T>(), args.y.as<T>(), args.x.size, args.scale);
  });
}

void run(const ScaledTanhBackward& args, lamina::CudaStream stream) {
  if (args.write == lamina::GradWrite::skip) return;
  dispatch(args.y.dtype, args.kName, [&]<class T>() {
    scaled_tanh_backward_kernel<<<blocks_for(args.y.size), kThreads, 0, stream.handle>>>(
        args.y.as<const T>(), args.dy.as<const T>(), args.dx.as<T>(), args.y.size, args.scale,
        args.write == lamina::GradWrite::accumulate);
  });
}

}  // namespace custom
