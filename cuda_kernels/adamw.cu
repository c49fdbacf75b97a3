// SPDX-License-Identifier: MIT
// The optimizer step on CUDA. BeginStep: a fixed grid sums the squares of the gradients, one block
// combines them in double and works out the scalars of the step. AdamW: one pass over the flat
// buffers; it reads those scalars from device memory, so the host never waits.
#include "core/kernels/adamw.h"
#include "cuda_kernels/device/block.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

#include <algorithm>

namespace lamina::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kFloats = 4;                    // in 16 bytes
constexpr std::int64_t kNormBlocks = 1024;    // 8 per SM of 128
constexpr std::int64_t kNormElements = 4096;  // least work of a block

std::int64_t norm_blocks(const BeginStep& args) {
  return std::clamp<std::int64_t>((args.grads.size + kNormElements - 1) / kNormElements, 1,
                                  kNormBlocks);
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    sum_squares(const float* __restrict__ grads, float* __restrict__ parts, std::int64_t n) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads * kWidth;
  float sum[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    sum[i] = 0.0F;
#pragma unroll 4
  for (std::int64_t at = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth; at < n;
       at += step) {
    float values[kWidth];
    load_values(grads + at, static_cast<int>(min(n - at, std::int64_t{kWidth})), values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      sum[i] = fmaf(values[i], values[i], sum[i]);
  }
  float total = 0.0F;
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    total += sum[i];
  total = device::block_sum(total);
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

__device__ double learning_rate(const Schedule& schedule, std::int64_t step) {
  const double peak = schedule.peak;
  const double floor = schedule.floor;
  if (step < schedule.warmup) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  }
  if (schedule.kind == ScheduleKind::constant) return peak;
  if (step >= schedule.total) return floor;
  const double done = static_cast<double>(step - schedule.warmup) /
                      static_cast<double>(schedule.total - schedule.warmup);
  const double left =
      schedule.kind == ScheduleKind::linear ? 1.0 - done : 0.5 * (1.0 + cospi(done));
  return floor + (peak - floor) * left;
}

/// base^exponent by repeated squaring: no stack, as pow() would need.
__device__ double power(double base, std::int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result *= base;
    base *= base;
  }
  return result;
}

struct StepOptions {
  float scale, max_norm, beta1, beta2;
  Schedule schedule;
  LossScale loss_scale;
};

/// For the next step, after grad_scale is known.
__device__ void update_loss_scale(const LossScale& options, StepState& state) {
  if (state.grad_scale == 0.0F) {
    const float smaller = fmaxf(state.loss_scale * options.backoff, 1.0F);
    state.skipped_in_a_row = smaller < state.loss_scale ? 0 : state.skipped_in_a_row + 1;
    state.loss_scale = smaller;
    state.updates_in_a_row = 0;
    return;
  }
  state.skipped_in_a_row = 0;
  if (++state.updates_in_a_row < options.interval) return;
  const float larger = state.loss_scale * options.growth;
  if (isfinite(larger)) state.loss_scale = larger;
  state.updates_in_a_row = 0;
}

__global__ void __launch_bounds__(kNormBlocks)
    begin_step(const float* __restrict__ parts, int count, StepState* __restrict__ state,
               StepOptions options) {
  __shared__ double sums[kNormBlocks];
  const auto thread = static_cast<int>(threadIdx.x);
  sums[thread] = thread < count ? static_cast<double>(parts[thread]) : 0.0;
  __syncthreads();
  for (int half = static_cast<int>(kNormBlocks) / 2; half > 0; half /= 2) {
    if (thread < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  if (thread != 0) return;
  StepState next = *state;
  const double scale = static_cast<double>(options.scale) / static_cast<double>(next.loss_scale);
  const double norm = scale * sqrt(sums[0]);
  next.grad_norm = static_cast<float>(norm);
  next.lr = static_cast<float>(learning_rate(options.schedule, next.step));
  ++next.step;
  if (isfinite(next.grad_norm)) {
    const double max_norm = options.max_norm;
    const double clip = max_norm > 0.0 && norm > max_norm ? max_norm / norm : 1.0;
    next.grad_scale = static_cast<float>(scale * clip);
    ++next.updates;
    next.bias_correction_1 =
        static_cast<float>(1.0 - power(static_cast<double>(options.beta1), next.updates));
    next.bias_correction_2 =
        static_cast<float>(1.0 - power(static_cast<double>(options.beta2), next.updates));
  } else {
    next.grad_scale = 0.0F;
    ++next.skipped;
  }
  update_loss_scale(options.loss_scale, next);
  *state = next;
}

/// W is the dtype of the weights; `master` is null when they are f32 themselves.
template <class W, int kWidth>
struct AdamWBody {
  W* weights;
  float* master;
  const float* grads;
  float* m;
  float* v;
  const StepState* state;
  std::int64_t decayed;
  float beta1, beta2, eps, weight_decay;

  struct Scalars {
    float grad_scale;
    float rate;                // lr / c1
    float inverse_correction;  // 1 / c2
    float decay;               // 1 - lr * weight_decay
  };

  __device__ Scalars row(std::int64_t) const {
    const float lr = state->lr;
    return {state->grad_scale, lr / state->bias_correction_1, 1.0F / state->bias_correction_2,
            1.0F - lr * weight_decay};
  }

  __device__ void apply(const Scalars& scalars, std::int64_t at, int count) const {
    if (scalars.grad_scale == 0.0F) return;
    float grad[kWidth];
    float first[kWidth];
    float second[kWidth];
    float value[kWidth];
    load_values(grads + at, count, grad);
    load_values(m + at, count, first);
    load_values(v + at, count, second);
    if (master != nullptr) {
      load_values(master + at, count, value);
    } else {
      load_values(weights + at, count, value);
    }
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float g = scalars.grad_scale * grad[i];
      first[i] = beta1 * first[i] + (1.0F - beta1) * g;
      second[i] = beta2 * second[i] + (1.0F - beta2) * g * g;
      const float decay = at + i < decayed ? scalars.decay : 1.0F;
      const float root = sqrtf(second[i] * scalars.inverse_correction) + eps;
      value[i] = value[i] * decay - __fdividef(scalars.rate * first[i], root);
    }
    store_values(m + at, count, first);
    store_values(v + at, count, second);
    if (master != nullptr) store_values(master + at, count, value);
    store_values(weights + at, count, value);
  }
};

}  // namespace

std::int64_t workspace_bytes(const BeginStep& args, CudaStream) {
  return norm_blocks(args) * static_cast<std::int64_t>(sizeof(float));
}

void run(const BeginStep& args, CudaStream stream) {
  const auto blocks = static_cast<unsigned>(norm_blocks(args));
  const auto* const grads = args.grads.as<const float>();
  auto* const parts = args.workspace.as<float>();
  dispatch_width<kFloats>(device::is_vector_aligned(grads), [&]<int kGradWidth>() {
    sum_squares<kGradWidth><<<blocks, kThreads, 0, stream.handle>>>(grads, parts, args.grads.size);
  });
  begin_step<<<1, kNormBlocks, 0, stream.handle>>>(
      parts, static_cast<int>(blocks), args.state.as<StepState>(),
      {args.scale, args.max_norm, args.beta1, args.beta2, args.schedule, args.loss_scale});
}

void run(const AdamW& args, CudaStream stream) {
  const bool aligned = std::ranges::all_of(
      std::initializer_list<Flat>{args.weights, args.master, args.grads, args.m, args.v},
      [](const Flat& view) { return device::is_vector_aligned(view.data); });
  dispatch_cuda_float(args.weights.dtype, AdamW::kName, [&]<class W>() {
    dispatch_width<kFloats>(aligned, [&]<int kFlatWidth>() {
      const AdamWBody<W, kFlatWidth> body{.weights = args.weights.as<W>(),
                                          .master = args.master.as<float>(),
                                          .grads = args.grads.as<const float>(),
                                          .m = args.m.as<float>(),
                                          .v = args.v.as<float>(),
                                          .state = args.state.as<const StepState>(),
                                          .decayed = args.decayed,
                                          .beta1 = args.beta1,
                                          .beta2 = args.beta2,
                                          .eps = args.eps,
                                          .weight_decay = args.weight_decay};
      launch_row_loop<kFlatWidth>(1, args.grads.size, body, stream);
    });
  });
}

}  // namespace lamina::kernels
