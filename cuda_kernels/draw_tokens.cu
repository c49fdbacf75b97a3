// SPDX-License-Identifier: MIT
// Drawing tokens on CUDA: a block per sequence. The least score that takes part is found bit by
// bit: the largest threshold whose scores are enough, by number (top k) or by probability (top p).
// No sorting, and the answer does not depend on the order of additions but for their rounding.
#include "core/kernels/draw_tokens.h"
#include "cuda_kernels/device/exp_sum.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/launch_kernel.cuh"
#include "cuda_kernels/row_loop.cuh"

namespace lamina::kernels {
namespace {

constexpr int kThreads = 1024;
constexpr int kPack = 8;  // neighbouring classes of a thread

struct Settings {
  float temperature;
  std::int64_t top_k;
  float top_p, repetition_penalty;
  PhiloxRounds rounds;
  const std::int32_t* position;
  std::int64_t classes, logits_stride, tokens_stride, log_probs_stride;
  std::int64_t scores_stride;
  std::int32_t *tokens, *next;
  float *log_probs, *scores;
};

/// Of floats, as whole numbers in the same order.
__device__ __forceinline__ unsigned key_of(float value) {
  const unsigned bits = __float_as_uint(value);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

/// The index of the largest value in the block; the first of equal ones.
__device__ int block_argmax(float value, int index) {
  __shared__ unsigned long long of_warps[device::kWarpSize];
  unsigned long long best = (static_cast<unsigned long long>(key_of(value)) << 32U) |
                            (0xffffffffU - static_cast<unsigned>(index));
  const auto larger = [](unsigned long long a, unsigned long long b) { return a > b ? a : b; };
#pragma unroll
  for (int offset = device::kWarpSize / 2; offset > 0; offset /= 2)
    best = larger(best, __shfl_xor_sync(device::kFullWarp, best, offset));
  if (threadIdx.x % device::kWarpSize == 0) of_warps[threadIdx.x / device::kWarpSize] = best;
  __syncthreads();
  best = of_warps[threadIdx.x % device::kWarpSize];
#pragma unroll
  for (int offset = device::kWarpSize / 2; offset > 0; offset /= 2)
    best = larger(best, __shfl_xor_sync(device::kFullWarp, best, offset));
  return static_cast<int>(0xffffffffU - static_cast<unsigned>(best));
}

/// The largest key whose scores, those with as large a key or a larger one, weigh `enough`.
template <class Weight>
__device__ unsigned largest_key(const float* scores, int classes, float enough, Weight weight) {
  unsigned key = 0;
  for (unsigned bit = 0x80000000U; bit != 0; bit >>= 1U) {
    float sum = 0.0F;
    for (int c = static_cast<int>(threadIdx.x); c < classes; c += kThreads) {
      if (key_of(scores[c]) >= (key | bit)) sum += weight(scores[c]);
    }
    if (device::block_sum(sum) >= enough) key |= bit;
  }
  return key;
}

/// From row to row of the scores: all begin with an aligned pack.
constexpr std::int64_t pitch_of(std::int64_t classes) {
  return (classes + kPack - 1) / kPack * kPack;
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) draw(const T* all_logits, Settings in) {
  wait_for_previous_kernel();
  start_next_kernel();
  const auto classes = static_cast<int>(in.classes);
  const int position = *in.position;
  const std::int64_t row = blockIdx.x;
  const T* const __restrict__ logits = all_logits + row * in.logits_stride;
  float* const __restrict__ scores = in.scores + row * in.scores_stride;
  std::int32_t* const tokens = in.tokens + row * in.tokens_stride;
  const auto thread = static_cast<int>(threadIdx.x);

  device::ExpSum total;
  for (int c = thread * kWidth; c < classes; c += kThreads * kWidth) {
    float values[kWidth];
    load_values(logits + c, min(classes - c, kWidth), values, -__builtin_huge_valf());
    total.add(values);
    store_values(scores + c, min(classes - c, kWidth), values);
  }
  total.combine<kThreads>();
  const float log_sum = total.log();
  __syncthreads();  // a thread may read and change another's score
  if (in.repetition_penalty != 1.0F) {
    for (int t = thread; t <= position; t += kThreads) {
      const int token = tokens[t];
      if (token < 0 || token >= classes) continue;
      scores[token] = penalised(device::to_float(logits[token]), in.repetition_penalty);
    }
    __syncthreads();
  }

  float best_value = -__builtin_huge_valf();
  int best = classes;
  if (in.temperature == 0.0F) {
    for (int c = thread; c < classes; c += kThreads) {
      if (best == classes || scores[c] > best_value) best = c, best_value = scores[c];
    }
  } else {
    unsigned least = 0;
    if (in.top_k > 0 && in.top_k < in.classes)
      least =
          largest_key(scores, classes, static_cast<float>(in.top_k), [](float) { return 1.0F; });
    if (in.top_p < 1.0F) {
      float largest = -__builtin_huge_valf();
      for (int c = thread; c < classes; c += kThreads)
        largest = fmaxf(largest, scores[c]);
      largest = device::block_max(largest);
      const float slope = device::kLog2E / in.temperature;
      const auto weight = [&](float score) {
        return key_of(score) >= least ? device::exp2_fast((score - largest) * slope) : 0.0F;
      };
      float sum = 0.0F;
      for (int c = thread; c < classes; c += kThreads)
        sum += weight(scores[c]);
      const float enough = in.top_p * device::block_sum(sum);
      least = max(least, min(largest_key(scores, classes, enough, weight), key_of(largest)));
    }
    const auto offset = static_cast<std::uint64_t>(position) + 1;
    const float by_temperature = 1.0F / in.temperature;
    for (int c = thread * kPack; c < classes; c += kThreads * kPack) {
      float values[kPack];
      load_values(scores + c, min(classes - c, kPack), values, -__builtin_huge_valf());
#pragma unroll
      for (int i = 0; i < kPack; i += 4) {
        const PhiloxBlock words = in.rounds.words(offset, draw_block(row, (c + i) / 4));
        const std::uint32_t of_class[] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float value = fmaf(values[i + j], by_temperature, draw_noise(of_class[j]));
          const bool takes_part = c + i + j < classes && key_of(values[i + j]) >= least;
          if (takes_part && (best == classes || value > best_value)) {
            best = c + i + j;
            best_value = value;
          }
        }
      }
    }
  }
  best = block_argmax(best_value, best);
  if (thread != 0) return;
  const bool is_finite = isfinite(log_sum) && best < classes;
  const int drawn = is_finite ? best : 0;
  tokens[position + 1] = drawn;
  in.next[row] = drawn;
  in.log_probs[row * in.log_probs_stride + position + 1] =
      is_finite ? device::to_float(logits[drawn]) - log_sum : __int_as_float(0x7fffffff);
}

}  // namespace

void run(const DrawTokens& args, CudaStream stream) {
  if (args.logits.rows == 0 || args.logits.cols == 0) return;
  dispatch_cuda_float(args.logits.dtype, args.kName, [&]<class T>() {
    const Settings in{.temperature = args.temperature,
                      .top_k = args.top_k,
                      .top_p = args.top_p,
                      .repetition_penalty = args.repetition_penalty,
                      .rounds = PhiloxRounds(args.seed),
                      .position = args.position.as<const std::int32_t>(),
                      .classes = args.logits.cols,
                      .logits_stride = args.logits.stride,
                      .tokens_stride = args.tokens.stride,
                      .log_probs_stride = args.log_probs.stride,
                      .scores_stride = pitch_of(args.logits.cols),
                      .tokens = args.tokens.as<std::int32_t>(),
                      .next = args.next.as<std::int32_t>(),
                      .log_probs = args.log_probs.as<float>(),
                      .scores = args.workspace.as<float>()};
    const LaunchShape shape{.grid = dim3(static_cast<unsigned>(args.logits.rows)),
                            .block = dim3(kThreads)};
    dispatch_width<kPack>(are_vector_aligned({args.logits}), [&]<int kWidth>() {
      launch_kernel(draw<T, kWidth>, shape, stream, args.logits.as<const T>(), in);
    });
  });
}

std::int64_t workspace_bytes(const DrawTokens& args, CudaStream) {
  return args.logits.rows * pitch_of(args.logits.cols) * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace lamina::kernels
