// SPDX-License-Identifier: MIT
// Attention of one new position on CUDA. A block has a sequence and a head. A group of lanes has a
// position at a time: a pack of its key and of its value each, so that a warp reads whole lines.
// Each group keeps sum and weighted values relative to its largest score; groups are combined at
// the end, in a fixed order. Milakov, Gimelshein 2018, https://arxiv.org/abs/1805.02867.
#include "core/check.h"
#include "core/kernels/cached_attention.h"
#include "cuda_kernels/device/exp_sum.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/launch_kernel.cuh"
#include "cuda_kernels/row_loop.cuh"

#include <bit>

namespace lamina::kernels {
namespace {

constexpr int kMaxThreads = 512, kFewThreads = 128;
constexpr int kSingles = 16;          // elements of a lane that are not in packs
constexpr int kManyBlocks = 2 * 132;  // from here on small blocks fill a GPU
constexpr float kMinusInfinity = -__builtin_huge_valf();

template <class T>
struct Operands {
  const std::int32_t* position;
  const T* qkv;
  T *cache, *out;
  std::int64_t qkv_stride, cache_stride, out_stride, capacity;
  int size, lanes;  // of a head; of a group, a power of 2
  float scale;      // times log2(e)
};

/// What a group has seen: values weighted with 2^(score - largest), and the sum of the weights.
template <int kChunks, int kWidth>
struct Seen {
  float largest = kMinusInfinity, sum = 0.0F;
  float values[kChunks][kWidth] = {};

  __device__ __forceinline__ void scale_by(float factor) {
    sum *= factor;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[c][i] *= factor;
    }
  }

  /// Makes the weights relative to `next`, which is at least as large as `largest`.
  __device__ __forceinline__ void raise_to(float next) {
    scale_by(next == kMinusInfinity ? 1.0F : device::exp2_fast(largest - next));
    largest = next;
  }
};

/// kWidth elements at a time, kChunks times for a lane; kKeys positions are on their way at once.
template <class T, int kWidth, int kChunks, int kKeys>
__global__ void __launch_bounds__(kChunks == 1 ? kMaxThreads : kFewThreads) attend(Operands<T> in) {
  using Pack = device::Pack<T, kWidth>;
  extern __shared__ float combined[];  // [warps][size]
  __shared__ float largests[kMaxThreads / device::kWarpSize], sums[kMaxThreads / device::kWarpSize];
  wait_for_previous_kernel();
  start_next_kernel();
  const int position = *in.position;
  const int lane = static_cast<int>(threadIdx.x) % in.lanes;
  const int group = static_cast<int>(threadIdx.x) / in.lanes;
  const int groups = static_cast<int>(blockDim.x) / in.lanes;
  const std::int64_t heads_width = std::int64_t{gridDim.x} * in.size;
  const std::int64_t at = std::int64_t{blockIdx.x} * in.size;
  const T* const q = in.qkv + blockIdx.y * in.qkv_stride + at;
  T* const cache = in.cache + blockIdx.y * in.capacity * in.cache_stride + at;
  const auto element = [&](int c) { return (lane + c * in.lanes) * kWidth; };

  const auto load = [&](const T* from, Pack(&to)[kChunks]) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (element(c) < in.size) {
        to[c] = device::load_pack<kWidth>(from + element(c));
      } else {
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          to[c].set(i, 0.0F);
      }
    }
  };
  float query[kChunks][kWidth];
  Pack loaded[kChunks];
  load(q, loaded);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    device::to_floats(loaded[c], query[c]);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      query[c][i] *= in.scale;
  }
  const auto score_of = [&](const Pack(&key)[kChunks]) {
    float dot = 0.0F;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      float k[kWidth];
      device::to_floats(key[c], k);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        dot = fmaf(query[c][i], k[i], dot);
    }
    for (int offset = in.lanes / 2; offset > 0; offset /= 2)
      dot += __shfl_xor_sync(device::kFullWarp, dot, offset);
    return dot;
  };
  Seen<kChunks, kWidth> seen;
  const auto take = [&](float score, const Pack(&value)[kChunks]) {
    const float weight = device::exp2_fast(score - seen.largest);
    seen.sum += weight;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      float v[kWidth];
      device::to_floats(value[c], v);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        seen.values[c][i] = fmaf(weight, v[i], seen.values[c][i]);
    }
  };

  Pack keys[kKeys][kChunks], values[kKeys][kChunks];
  load(q + heads_width, keys[0]);
  load(q + 2 * heads_width, values[0]);
  const float newest = score_of(keys[0]);
  if (group == 0) {  // the new position is the first group's, and goes to the cache
    seen.largest = newest;
    take(newest, values[0]);
    T* const to = cache + position * in.cache_stride;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (element(c) >= in.size) continue;
      device::store_pack(to + element(c), keys[0][c]);
      device::store_pack(to + heads_width + element(c), values[0][c]);
    }
  }
  for (int first = 0; first < position; first += groups * kKeys) {
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
      const int t = min(first + k * groups + group, position - 1);
      load(cache + t * in.cache_stride, keys[k]);
      load(cache + t * in.cache_stride + heads_width, values[k]);
    }
    float scores[kKeys];
    float next = seen.largest;
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
      const float score = score_of(keys[k]);
      scores[k] = first + k * groups + group < position ? score : kMinusInfinity;
      next = fmaxf(next, scores[k]);
    }
    seen.raise_to(next);
    if (next != kMinusInfinity || first + group < position) {  // the latter lets a NaN through
#pragma unroll
      for (int k = 0; k < kKeys; ++k)
        take(scores[k], values[k]);
    }
  }

  for (int offset = in.lanes; offset < device::kWarpSize; offset *= 2) {
    seen.raise_to(fmaxf(seen.largest, __shfl_xor_sync(device::kFullWarp, seen.largest, offset)));
    seen.sum += __shfl_xor_sync(device::kFullWarp, seen.sum, offset);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        seen.values[c][i] += __shfl_xor_sync(device::kFullWarp, seen.values[c][i], offset);
    }
  }
  const int warp = static_cast<int>(threadIdx.x) / device::kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / device::kWarpSize;
  if (static_cast<int>(threadIdx.x) % device::kWarpSize < in.lanes) {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if (element(c) < in.size) combined[warp * in.size + element(c) + i] = seen.values[c][i];
      }
    }
    if (lane == 0) largests[warp] = seen.largest, sums[warp] = seen.sum;
  }
  __syncthreads();
  float largest = kMinusInfinity;
  for (int w = 0; w < warps; ++w)
    largest = fmaxf(largest, largests[w]);
  float sum = 0.0F;
  for (int w = 0; w < warps; ++w)
    sum += sums[w] * device::exp2_fast(largests[w] - largest);
  T* const out = in.out + blockIdx.y * in.out_stride + at;
  for (int i = static_cast<int>(threadIdx.x); i < in.size; i += static_cast<int>(blockDim.x)) {
    float value = 0.0F;
    for (int w = 0; w < warps; ++w)
      value = fmaf(combined[w * in.size + i], device::exp2_fast(largests[w] - largest), value);
    out[i] = device::from_float<T>(value / sum);
  }
}

}  // namespace

void run(const CachedAttention& args, CudaStream stream) {
  constexpr std::int64_t kMost = kSingles * device::kWarpSize;
  LAMINA_CHECK(args.head_size <= kMost, args.kName, ": head_size is ", args.head_size,
               ", expected at most ", kMost, " on CUDA");
  if (args.qkv.rows == 0 || args.heads == 0 || args.head_size == 0) return;
  dispatch_cuda_float(args.out.dtype, args.kName, [&]<class T>() {
    const auto size = static_cast<int>(args.head_size);
    constexpr int kWidth = device::kVectorWidth<T>;
    const bool in_packs = size % kWidth == 0 && size <= device::kWarpSize * kWidth &&
                          are_vector_aligned({args.qkv, args.cache});
    const auto blocks = static_cast<std::int64_t>(args.heads) * args.qkv.rows;
    const int threads = blocks < kManyBlocks && in_packs ? kMaxThreads : kFewThreads;
    const Operands<T> in{
        .position = args.position.as<const std::int32_t>(),
        .qkv = args.qkv.as<const T>(),
        .cache = args.cache.as<T>(),
        .out = args.out.as<T>(),
        .qkv_stride = args.qkv.stride,
        .cache_stride = args.cache.stride,
        .out_stride = args.out.stride,
        .capacity = args.capacity,
        .size = size,
        .lanes = in_packs ? static_cast<int>(std::bit_ceil(static_cast<unsigned>(size / kWidth)))
                          : device::kWarpSize,
        .scale = args.scale * device::kLog2E};
    const LaunchShape shape{
        .grid = dim3(static_cast<unsigned>(args.heads), static_cast<unsigned>(args.qkv.rows)),
        .block = dim3(static_cast<unsigned>(threads)),
        .shared_bytes =
            sizeof(float) * static_cast<std::size_t>(threads / device::kWarpSize * size)};
    if (in_packs) {
      launch_kernel(attend<T, kWidth, 1, 4>, shape, stream, in);
    } else {
      launch_kernel(attend<T, 1, kSingles, 1>, shape, stream, in);
    }
  });
}

}  // namespace lamina::kernels
