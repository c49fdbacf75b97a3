// SPDX-License-Identifier: MIT
// Hopper attention, forward: each warpgroup owns 64 queries and walks over blocks of 64 keys, which
// the warpgroups of a block share. The product with the values of one block and the scores of the
// next run while other warpgroups of the multiprocessor work on their softmax: four of them at head
// size 64, in two blocks, so that one block's start and end hide behind the other. Shah et al.
// 2024, "FlashAttention-3", https://arxiv.org/abs/2407.08608 (there with a warpgroup that only
// copies). Also the conditions, the tensor maps and the workspace of the Hopper kernels.
#include "core/cuda/device_guard.h"
#include "core/device.h"
#include "cuda_kernels/attention_hopper.cuh"
#include "cuda_kernels/attention_hopper.h"

#include <cudaTypedefs.h>

#include <limits>
#include <map>
#include <mutex>

namespace lamina::kernels {
namespace {

template <int D>
struct ForwardPolicy {
  static constexpr int kWarpgroups = D == 64 ? 2 : 3;
  static constexpr int kBlocks = D == 64 ? 2 : 1;  // on a multiprocessor: 128 or 168 registers
  static constexpr int kThreads = kWarpgroups * device::kWarpgroup;
  static constexpr int kStages = 4;
  static constexpr int kAhead = kStages - 2;  // copied ahead: no wait for a late warpgroup
  static_assert(kAhead > 0);
  static_assert(kStages >= kWarpgroups);  // causal: the first is done that many blocks earlier
  static constexpr int kStageBytes = 2 * kBlockBytes<D>;  // keys and values
  static constexpr int kSharedBytes = kWarpgroups * kBlockBytes<D> + kStages * kStageBytes;
};

template <class T>
struct ForwardArgs {
  CUtensorMap qkv;  // [batch, time, 3 * heads, D]
  AttentionOptions options;
  PhiloxRounds rounds;      // of the options' key
  HeadRows<T> out;          // [batch * time, heads * D]
  float* __restrict__ lse;  // [batch * heads * time]
  int head_count;           // batch * heads
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The softmax of 16 rows of scores that come in blocks: rows g and g + 8 of lane 4 g + t. Weights
/// are 2^(scale_log2 score - reference), where the reference of a row is the maximum of the blocks
/// at which it was last raised: it need not be the true maximum, as long as the weights stay small
/// enough for every dtype.
class RunningSoftmax {
 public:
  __device__ RunningSoftmax()
      : reference_{-std::numeric_limits<float>::infinity(),
                   -std::numeric_limits<float>::infinity()},
        total_{0.0F, 0.0F} {}

  /// Replaces scores by weights and adds them up, by the references so far: without a search for
  /// the maximum. False where that would leave too large a weight in the warpgroup: nothing has
  /// been added then, and scores are lost.
  __device__ __forceinline__ bool try_weigh(float (&scores)[8][4], float scale_log2,
                                            int warpgroup) {
    constexpr float kLimit = 256.0F;  // of the sum over a lane's columns; f16 ends at 65504
    float parts[2];
    weigh(scores, scale_log2, parts);
    if (device::any_of_warpgroup(warpgroup, fmaxf(parts[0], parts[1]) > kLimit)) return false;
    total_[0] += parts[0];
    total_[1] += parts[1];
    return true;
  }

  /// The same with references raised to the maximum of the block, where that is larger. Shrinks
  /// sum, which is of weights by the old ones.
  template <int kTiles>
  __device__ __forceinline__ void raise_and_weigh(float (&scores)[8][4], float scale_log2,
                                                  float (&sum)[kTiles][1][8][4]) {
    float parts[2];
    raise(scores, scale_log2, sum);
    weigh(scores, scale_log2, parts);
    total_[0] += parts[0];
    total_[1] += parts[1];
  }

  /// The sum of the weights of a row, by four lanes at once.
  __device__ __forceinline__ float total(int half) const {
    float whole = total_[half];
    whole += __shfl_xor_sync(0xffffffffU, whole, 1);
    return whole + __shfl_xor_sync(0xffffffffU, whole, 2);
  }

  __device__ __forceinline__ float lse(int half, float total) const {
    return reference_[half] * device::kLn2 + logf(total);
  }

 private:
  __device__ __forceinline__ void weigh(float (&scores)[8][4], float scale_log2,
                                        float (&parts)[2]) const {
    float sums[4] = {};  // four chains: an addition takes four cycles
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[n][i] = device::exp2_fast(fmaf(scores[n][i], scale_log2, -reference_[i / 2]));
        sums[i] += scores[n][i];
      }
    }
    parts[0] = sums[0] + sums[1];
    parts[1] = sums[2] + sums[3];
  }

  template <int kTiles>
  __device__ __forceinline__ void raise(const float (&scores)[8][4], float scale_log2,
                                        float (&sum)[kTiles][1][8][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = fmaxf(scores[0][2 * half], scores[0][2 * half + 1]);
#pragma unroll
      for (int n = 1; n < 8; ++n) {
        largest = fmaxf(largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, 2));
      // Key 0 is visible to every row, so the maximum is finite from the first block on.
      const float next = fmaxf(reference_[half], largest * scale_log2);
      const float shrink = device::exp2_fast(reference_[half] - next);
      reference_[half] = next;
      total_[half] *= shrink;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          sum[tile][0][n][2 * half] *= shrink;
          sum[tile][0][n][2 * half + 1] *= shrink;
        }
      }
    }
  }

  float reference_[2];  // log2
  float total_[2];      // of this lane's columns
};

/// Makes scores minus infinity where the key, from `first_key` on, is past the time or hidden from
/// the query, from `first_query` on.
__device__ __forceinline__ void mask_block(float (&scores)[8][4], const AttentionOptions& options,
                                           int first_query, int first_key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int query = first_query + i / 2 * 8 + lane / 4;
    const int limit = (options.causal ? min(options.time, query + 1) : options.time) - first_key;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      if (n * 8 + lane % 4 * 2 + i % 2 >= limit) {
        scores[n][i] = -std::numeric_limits<float>::infinity();
      }
    }
  }
}

#endif

template <class T, int D, bool kDropout>
__global__ void __launch_bounds__(ForwardPolicy<D>::kThreads, ForwardPolicy<D>::kBlocks)
    attention_hopper_forward(const __grid_constant__ ForwardArgs<T> args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Policy = ForwardPolicy<D>;
  constexpr int kStages = Policy::kStages;
  constexpr bool kKeepQueries = D == 64 && !kDropout;  // in registers, where they have room
  __shared__ std::uint64_t barriers[1 + 2 * kStages];
  extern __shared__ uint4 shared[];
  const AttentionOptions& options = args.options;
  const int blocks = row_blocks(options.time);
  const QueryTile own(static_cast<int>(blockIdx.x), blocks, Policy::kWarpgroups, args.head_count);
  const int batch = own.head / options.heads;
  const int head = own.head % options.heads;
  const int warpgroup = own_warpgroup();
  const int own_block = own.tile * Policy::kWarpgroups + warpgroup;  // of queries
  const int count = options.causal ? min(blocks, own_block + 1) : blocks;

  const std::uint32_t queries = tile_storage(shared);
  const std::uint32_t stages = queries + Policy::kWarpgroups * kBlockBytes<D>;
  const std::uint32_t queries_here = device::shared_address(barriers);
  const auto full = [&](int n) { return queries_here + 8 + n % kStages * 8; };
  const auto empty = [&](int n) { return queries_here + 8 + (kStages + n % kStages) * 8; };
  const auto parity = [&](int n) { return n / kStages % 2; };
  // The last warpgroup has the most blocks: its first thread starts all copies.
  const bool is_copier = threadIdx.x == Policy::kThreads - device::kWarpgroup;
  const auto copy_keys = [&](int n) {
    if (n >= kStages) device::wait_for_phase(empty(n), parity(n - kStages));
    const std::uint32_t to = stages + n % kStages * Policy::kStageBytes;
    device::arrive_expecting(full(n), Policy::kStageBytes);
    copy_block<D>(to, args.qkv, options.heads + head, n * kBlockRows, batch, full(n));
    copy_block<D>(to + kBlockBytes<D>, args.qkv, 2 * options.heads + head, n * kBlockRows, batch,
                  full(n));
  };
  if (is_copier) {
    device::open_barrier(queries_here, 1);
    for (int n = 0; n < kStages; ++n) {
      device::open_barrier(full(n), 1);
      device::open_barrier(empty(n), Policy::kThreads / 32);
    }
    device::publish_barriers();
  }
  wait_for_previous_kernel();
  start_next_kernel();
  if (is_copier) {
    device::arrive_expecting(queries_here, Policy::kWarpgroups * kBlockBytes<D>);
    for (int i = 0; i < Policy::kWarpgroups; ++i) {
      copy_block<D>(queries + i * kBlockBytes<D>, args.qkv, head,
                    (own.tile * Policy::kWarpgroups + i) * kBlockRows, batch, queries_here);
    }
    for (int n = 0; n < min(Policy::kAhead, count); ++n)
      copy_keys(n);
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_query = own_block * kBlockRows + warp * 16;  // first of the warp
  const std::uint32_t own_queries = queries + warpgroup * kBlockBytes<D>;
  const std::uint32_t first_stage = device::tile_descriptor(stages);
  const auto key_block = [&](int n) {
    return device::advance(first_stage, n % kStages * Policy::kStageBytes);
  };
  [[maybe_unused]] std::uint32_t kept_queries[D / 16][4];
  float scores[8][4];
  float sum[D / 64][1][8][4] = {};
  RunningSoftmax softmax;
  const auto multiply_keys = [&](int n) {
    if constexpr (kKeepQueries) {
      multiply_blocks<T, D>(scores, kept_queries, key_block(n));
    } else {
      multiply_blocks<T, D>(scores, device::tile_descriptor(own_queries), key_block(n));
    }
    device::end_products();
  };

  const bool is_masked = options.causal || options.time % kBlockRows != 0;
  std::uint32_t weights[4][4];
  [[maybe_unused]] std::uint32_t kept = 0;
  // Before scores and weights are there: the draw takes registers.
  const auto draw = [&](int n) {
    if constexpr (kDropout) {
      kept = draw_kept<false>(options, args.rounds, own.head, own_query, n * kBlockRows);
    }
  };
  // Weights as the next product takes them.
  const auto finish_weights = [&] {
    if constexpr (kDropout) {
#pragma unroll
      for (int column = 0; column < 8; ++column) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (!is_kept(kept, column, i)) scores[column][i] = 0.0F;
        }
      }
    }
    pack_weights<T>(weights, scores);
    device::pin(weights);
  };
  const auto scores_arrived = [&](int n) {
    device::wait_for_products<0>();
    device::pin(scores);
    if (is_masked && n == count - 1) mask_block(scores, options, own_query, n * kBlockRows);
  };

  device::wait_for_phase(queries_here, 0);
  if constexpr (kKeepQueries) fetch_block<D>(kept_queries, own_queries);
  draw(0);
  device::wait_for_phase(full(0), 0);
  device::begin_products();
  multiply_keys(0);
  scores_arrived(0);
  softmax.raise_and_weigh(scores, options.scale_log2, sum);
  finish_weights();
  for (int n = 0; n < count - 1; ++n) {
    if (is_copier && n + Policy::kAhead < count) copy_keys(n + Policy::kAhead);
    __syncwarp();
    draw(n + 1);
    device::wait_for_phase(full(n + 1), parity(n + 1));
    device::pin(scores);
    pin(sum);
    device::begin_products();
    multiply_weights<T, D>(sum, weights, device::advance(key_block(n), kBlockBytes<D>));
    device::end_products();
    multiply_keys(n + 1);
    scores_arrived(n + 1);
    device::pin(weights);
    pin(sum);
    if (lane == 0) device::arrive(empty(n));
    if (!softmax.try_weigh(scores, options.scale_log2, warpgroup)) {
      device::pin(scores);
      device::begin_products();
      multiply_keys(n + 1);
      scores_arrived(n + 1);
      softmax.raise_and_weigh(scores, options.scale_log2, sum);
    }
    finish_weights();
  }
  pin(sum);
  device::begin_products();
  multiply_weights<T, D>(sum, weights, device::advance(key_block(count - 1), kBlockBytes<D>));
  device::end_products();
  device::wait_for_products<0>();
  pin(sum);

  float factor[1][2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float whole = softmax.total(half);
    factor[0][half] = (kDropout ? options.keep_scale : 1.0F) / whole;
    const int query = own_query + half * 8 + lane / 4;
    if (lane % 4 == 0 && query < options.time) {
      args.lse[static_cast<std::int64_t>(own.head) * options.time + query] =
          softmax.lse(half, whole);
    }
  }
  device::wait_for_warpgroup(warpgroup);  // all have read their queries
  store_block<T, D>(args.out.at(batch, options.time, head * D), sum, factor, own_queries, own_query,
                    options.time, false);
#endif
}

/// Whether the code for sm_90a is what runs on the current device: only that uses static shared
/// memory.
bool has_code() {
  cudaFuncAttributes attributes{};
  LAMINA_CUDA_CHECK(
      cudaFuncGetAttributes(&attributes, attention_hopper_forward<__nv_bfloat16, 64, false>));
  return attributes.sharedSizeBytes > 0;
}

/// The driver's function, found at run time: programs need not link the driver.
PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  LAMINA_CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                     cudaEnableDefault, &result));
#else
  LAMINA_CUDA_CHECK(
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &result));
#endif
  if (result != cudaDriverEntryPointSuccess) {
    throw CudaError(
        "attention: the driver has no cuTensorMapEncodeTiled, expected one of CUDA 12 or "
        "later; update the driver",
        static_cast<int>(cudaErrorInsufficientDriver));
  }
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

}  // namespace

CUtensorMap head_tensor_map(const Rows& rows, const AttentionShape& shape, std::int64_t heads) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = tensor_map_encoder();
  const auto size = [](std::int64_t extent) { return static_cast<cuuint64_t>(extent); };
  const cuuint64_t extents[] = {size(shape.head_size), size(heads), size(shape.time),
                                size(shape.batch)};
  const cuuint64_t strides[] = {size(shape.head_size * 2), size(rows.stride * 2),
                                size(rows.stride * shape.time * 2)};  // bytes, of all but the first
  const cuuint32_t box[] = {device::kTileColumns, 1, device::kTileRows, 1};
  const cuuint32_t steps[] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map,
             rows.dtype == DType::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                       : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
             4, rows.data, extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw CudaError(cat("attention: cuTensorMapEncodeTiled gave ", static_cast<int>(status),
                        " for rows of ", heads, " heads of ", shape.head_size, " with stride ",
                        rows.stride, ", expected a multiple of 8 from an address of 16"),
                    static_cast<int>(status));
  }
  return map;
}

bool attention_hopper_runs(int device) {
  static std::mutex mutex;
  static std::map<int, bool> answers;
  const std::lock_guard lock(mutex);
  const auto known = answers.find(device);
  if (known != answers.end()) return known->second;
  const bool is_hopper = device_info({DeviceKind::cuda, device}).compute_capability == 90;
  const cuda::DeviceGuard guard(device);
  const bool answer = is_hopper && has_code();
  answers[device] = answer;
  return answer;
}

bool attention_hopper_supports(const AttentionShape& shape, DType dtype) {
  const bool has_size = shape.head_size == 64 || shape.head_size == 128;
  // Blocks, heads, positions and columns are counted in 32 bits.
  const bool is_countable = shape.batch * shape.heads * (shape.time / 32 + 4) < INT32_MAX &&
                            shape.time < INT32_MAX / 2 && shape.heads < INT32_MAX / 384;
  return (dtype == DType::bf16 || dtype == DType::f16) && has_size && is_countable &&
         shape.scale > 0.0F;
}

std::int64_t attention_hopper_workspace(const AttentionBackward& args) {
  const std::int64_t blocks = args.shape.batch * row_blocks(args.shape.time);
  return blocks * args.shape.heads * kStatisticsBytes +
         (args.column_sum ? blocks * args.dqkv.cols * 4 : 0);
}

void attention_hopper(const Attention& args, CudaStream stream) {
  const AttentionShape& shape = args.shape;
  const std::int64_t heads = shape.batch * shape.heads;
  if (heads * shape.time == 0) return;
  with_hopper_instance(shape, args.qkv.dtype, [&]<class T, int D, bool kDropout>() {
    using Policy = ForwardPolicy<D>;
    const ForwardArgs<T> forward{.qkv = head_tensor_map(args.qkv, shape, 3 * shape.heads),
                                 .options = attention_options(shape),
                                 .rounds = PhiloxRounds(shape.key.seed),
                                 .out = {args.out.as<T>(), static_cast<int>(args.out.stride)},
                                 .lse = args.lse.as<float>(),
                                 .head_count = static_cast<int>(heads)};
    launch_hopper(attention_hopper_forward<T, D, kDropout>,
                  heads * QueryTile::count(row_blocks(shape.time), Policy::kWarpgroups),
                  Policy::kThreads, Policy::kSharedBytes, stream, forward);
  });
}

}  // namespace lamina::kernels
