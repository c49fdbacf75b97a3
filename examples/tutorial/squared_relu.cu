// SPDX-License-Identifier: MIT
// Tutorial, step 5: the CUDA kernels of squared_relu, f32.
#include "core/error.h"
#include "core/text.h"
#include "examples/tutorial/squared_relu.h"

namespace {

constexpr int kThreads = 256;

__global__ void forward_kernel(const float* x, float* y, std::int64_t size) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= size) return;
  const float positive = fmaxf(x[i], 0.0F);
  y[i] = positive * positive;
}

__global__ void backward_kernel(const float* x, const float* dy, float* dx, std::int64_t size,
                                bool adds) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= size) return;
  const float grad = 2.0F * fmaxf(x[i], 0.0F) * dy[i];
  dx[i] = adds ? dx[i] + grad : grad;
}

unsigned blocks_for(std::int64_t size) {
  return static_cast<unsigned>((size + kThreads - 1) / kThreads);
}

}  // namespace

void run(const SquaredRelu& args, lamina::CudaStream stream) {
  if (args.x.dtype != lamina::DType::f32)
    throw lamina::DTypeError(
        lamina::cat(args.kName, ": dtype is ", args.x.dtype, ", expected f32 (on CUDA)"));
  if (args.x.size == 0) return;  // a grid of no blocks is an error
  forward_kernel<<<blocks_for(args.x.size), kThreads, 0, stream.handle>>>(
      args.x.as<float>(), args.y.as<float>(), args.x.size);
}

void run(const SquaredReluBackward& args, lamina::CudaStream stream) {
  if (args.write == lamina::GradWrite::skip || args.x.size == 0) return;
  backward_kernel<<<blocks_for(args.x.size), kThreads, 0, stream.handle>>>(
      args.x.as<float>(), args.dy.as<float>(), args.dx.as<float>(), args.x.size,
      args.write == lamina::GradWrite::accumulate);
}
