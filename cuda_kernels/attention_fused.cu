// SPDX-License-Identifier: MIT
// Fused attention, forward: one block of four warps per tile of queries, a loop over tiles of keys,
// softmax with a running maximum in registers. Dao 2023, "FlashAttention-2", algorithm 1,
// https://arxiv.org/abs/2307.08691. Also the conditions and the workspace of the fused kernels.
#include "cuda_kernels/attention_fused.h"
#include "cuda_kernels/device/attention_tile.cuh"

#include <initializer_list>
#include <limits>

namespace lamina::kernels {
namespace {

/// Tile sizes: the largest that keep everything in 255 registers and two blocks on an sm.
template <int D>
struct ForwardPolicy {
  // Each b operand feeds two mma: with one, shared memory would be the limit.
  static constexpr int kRowTiles = 2;
  static constexpr int kQueries = kAttentionThreads / 32 * 16 * kRowTiles;
  static constexpr int kKeys = D <= 96 ? 64 : 32;
  static constexpr bool kKeepQueries = D <= 64;
  static constexpr int kStage = 2 * tile_bytes<D>(kKeys);  // bytes of a tile of keys and values
  static constexpr int kSharedBytes = tile_bytes<D>(kQueries) + 2 * kStage;
};

template <class T>
struct ForwardArgs {
  AttentionOptions options;
  HeadRows<const T> qkv;    // [batch * time, 3 * heads * D]
  HeadRows<T> out;          // [batch * time, heads * D]
  float* __restrict__ lse;  // [batch * heads * time]
};

template <class T, int D, bool kDropout>
__global__ void __launch_bounds__(kAttentionThreads) attention_forward(ForwardArgs<T> args) {
  using Policy = ForwardPolicy<D>;
  constexpr int kRowTiles = Policy::kRowTiles;
  constexpr int kColumnTiles = Policy::kKeys / 8;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  extern __shared__ uint4 shared[];
  const AttentionOptions& options = args.options;
  const int time = options.time;
  const int tiles = (time + Policy::kQueries - 1) / Policy::kQueries;
  const int head_index = static_cast<int>(blockIdx.x) / tiles;
  // The last tile of a causal head is the longest: it starts first.
  const int first_query = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * Policy::kQueries;
  const int batch = head_index / options.heads;
  const int head = head_index % options.heads;
  const std::int64_t width = static_cast<std::int64_t>(options.heads) * D;
  const HeadRows<const T> queries = args.qkv.at(batch, time, head * D);
  const HeadRows<const T> keys = args.qkv.at(batch, time, head * D + width);
  const HeadRows<const T> values = args.qkv.at(batch, time, head * D + 2 * width);

  const std::uint32_t query_tile = device::shared_address(shared);
  const std::uint32_t stages = query_tile + tile_bytes<D>(Policy::kQueries);
  const auto copy_keys = [&](int stage, int first) {
    const std::uint32_t to = stages + stage * Policy::kStage;
    copy_tile<T, D, Policy::kKeys>(to, keys, first, time);
    copy_tile<T, D, Policy::kKeys>(to + Policy::kStage / 2, values, first, time);
  };
  copy_tile<T, D, Policy::kQueries>(query_tile, queries, first_query, time);
  copy_keys(0, 0);

  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_offset = static_cast<int>(threadIdx.x) / 32 * 16 * kRowTiles;
  const int own_query = first_query + own_offset;  // first of the warp
  OwnRows<D, kRowTiles, Policy::kKeepQueries> rows(query_tile + tile_bytes<D>(1) * own_offset);
  float sum[kRowTiles][D / 8][4] = {};
  float maximum[kRowTiles][2];
  float total[kRowTiles][2];  // of this lane's columns
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    maximum[m][0] = maximum[m][1] = -kInfinity;
    total[m][0] = total[m][1] = 0.0F;
  }

  const int end = options.causal ? min(time, first_query + Policy::kQueries) : time;
  for (int first_key = 0, stage = 0; first_key < end; first_key += Policy::kKeys, stage ^= 1) {
    device::wait_for_copies();
    __syncthreads();  // this tile is here, and all warps have finished with the other stage
    if (first_key == 0) rows.fetch();
    if (first_key + Policy::kKeys < end) copy_keys(stage ^ 1, first_key + Policy::kKeys);
    if (options.causal && first_key >= own_query + 16 * kRowTiles) continue;

    const std::uint32_t key_tile = stages + stage * Policy::kStage;
    float scores[kRowTiles][kColumnTiles][4];
    multiply_rows<T>(scores, rows, key_tile);

    if (first_key + Policy::kKeys > (options.causal ? min(time, own_query + 1) : time)) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int query = own_query + m * 16 + i / 2 * 8 + lane / 4;
          const int limit = (options.causal ? min(time, query + 1) : time) - first_key;
#pragma unroll
          for (int n = 0; n < kColumnTiles; ++n) {
            if (n * 8 + lane % 4 * 2 + i % 2 >= limit) scores[m][n][i] = -kInfinity;
          }
        }
      }
    }

#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = maximum[m][half];
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
          largest = fmaxf(largest, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
        }
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, 2));
        // Key 0 is visible to every row, so the maximum is finite from the first tile on.
        const float shift = largest * options.scale_log2;
        const float shrink = device::exp2_fast(maximum[m][half] * options.scale_log2 - shift);
        maximum[m][half] = largest;
        total[m][half] *= shrink;
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            scores[m][n][i] = device::exp2_fast(fmaf(scores[m][n][i], options.scale_log2, -shift));
            total[m][half] += scores[m][n][i];
          }
        }
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
          sum[m][n][2 * half] *= shrink;
          sum[m][n][2 * half + 1] *= shrink;
        }
      }
      if constexpr (kDropout) {
        const std::uint32_t kept =
            kept_elements<kColumnTiles, false>(options, head_index, own_query + m * 16, first_key);
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if (!is_kept(kept, n, i)) scores[m][n][i] = 0.0F;
          }
        }
      }
    }
    multiply_scores<T, D>(sum, scores, key_tile + Policy::kStage / 2);
  }

  float factor[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float whole = total[m][half];
      whole += __shfl_xor_sync(0xffffffffU, whole, 1);
      whole += __shfl_xor_sync(0xffffffffU, whole, 2);
      factor[m][half] = (kDropout ? options.keep_scale : 1.0F) / whole;
      const int query = own_query + m * 16 + half * 8 + lane / 4;
      if (lane % 4 == 0 && query < time) {
        args.lse[static_cast<std::int64_t>(head_index) * time + query] =
            maximum[m][half] * options.scale + logf(whole);
      }
    }
  }
  store_rows<T, D>(args.out.at(batch, time, head * D), sum, factor, own_query, time, false);
}

bool are_aligned(std::initializer_list<Rows> operands) {
  return std::all_of(operands.begin(), operands.end(), [](const Rows& rows) {
    return reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0 && rows.stride % 8 == 0 &&
           rows.stride < INT32_MAX;  // kernels keep strides in 32 bits
  });
}

}  // namespace

bool attention_fused_supports(const AttentionShape& shape, DType dtype) {
  const bool has_size = shape.head_size == 32 || shape.head_size == 64 || shape.head_size == 96 ||
                        shape.head_size == 128;
  // Blocks (of at least 32 rows), positions and columns are counted in 32 bits.
  const bool is_countable = shape.batch * shape.heads * (shape.time / 32 + 1) < INT32_MAX &&
                            shape.time < INT32_MAX / 2 && shape.heads < INT32_MAX / 128;
  return (dtype == DType::bf16 || dtype == DType::f16) && has_size && is_countable &&
         shape.scale > 0.0F;
}

bool attention_fused_aligned(const Attention& args) {
  return are_aligned({args.qkv, args.out});
}

bool attention_fused_aligned(const AttentionBackward& args) {
  return are_aligned({args.qkv, args.out, args.dout, args.dqkv});
}

std::int64_t attention_fused_workspace(const AttentionShape& shape, bool backward) {
  return backward ? shape.batch * shape.heads * shape.time * 4 : 0;
}

void attention_fused(const Attention& args, CudaStream stream) {
  const AttentionShape& shape = args.shape;
  if (shape.batch * shape.heads * shape.time == 0) return;
  with_attention_instance(shape, args.qkv.dtype, [&]<class T, int D, bool kDropout>() {
    using Policy = ForwardPolicy<D>;
    const std::int64_t tiles = (shape.time + Policy::kQueries - 1) / Policy::kQueries;
    const ForwardArgs<T> forward{.options = attention_options(shape),
                                 .qkv = {args.qkv.as<const T>(), static_cast<int>(args.qkv.stride)},
                                 .out = {args.out.as<T>(), static_cast<int>(args.out.stride)},
                                 .lse = args.lse.as<float>()};
    launch_attention(attention_forward<T, D, kDropout>, tiles * shape.batch * shape.heads,
                     Policy::kSharedBytes, stream, forward);
  });
}

}  // namespace lamina::kernels
