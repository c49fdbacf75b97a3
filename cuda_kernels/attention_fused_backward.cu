// SPDX-License-Identifier: MIT
// Fused attention, backward, without atomics: a small kernel for delta = sum(dout out) per row, one
// with a block per tile of keys for dk and dv, one with a block per tile of queries for dq. Scores
// are computed again in both. Dao 2023, "FlashAttention-2", algorithm 2,
// https://arxiv.org/abs/2307.08691 (there in one kernel, with atomic additions to dq).
//   p = exp(scale q k^T - lse), dv = dropped(p)^T dout, dp = dropped(dout v^T),
//   ds = p (dp - delta), dq = scale ds k, dk = scale ds^T q
#include "cuda_kernels/attention_fused.h"
#include "cuda_kernels/device/attention_tile.cuh"

namespace lamina::kernels {
namespace {

/// Rows are those a block owns, columns those it walks over: the most that registers can hold.
template <int D, bool kDropout>
struct KeyPolicy {
  static constexpr int kRowTiles = D <= 64 ? 2 : 1;
  static constexpr int kRows = kAttentionThreads / 32 * 16 * kRowTiles;
  static constexpr int kColumns = (D == 96 ? 64 : 32) / (kDropout && D >= 64 ? 2 : 1);
  // Bytes of one tile of queries and of dout, and their lse and delta.
  static constexpr int kStage = 2 * tile_bytes<D>(kColumns) + 2 * 4 * kColumns;
  static constexpr int kSharedBytes = 2 * tile_bytes<D>(kRows) + 2 * kStage;
};

template <int D>
struct QueryPolicy {
  static constexpr int kRowTiles = D <= 64 ? 2 : 1;
  static constexpr int kRows = kAttentionThreads / 32 * 16 * kRowTiles;
  static constexpr int kColumns = D == 96 ? 64 : 32;
  static constexpr bool kKeepRows = D <= 64;
  static constexpr int kStage = 2 * tile_bytes<D>(kColumns);  // bytes of a tile of keys and values
  static constexpr int kSharedBytes = 2 * tile_bytes<D>(kRows) + 2 * kStage;
};

template <class T>
struct BackwardArgs {
  AttentionOptions options;
  HeadRows<const T> qkv;            // [batch * time, 3 * heads * D]
  HeadRows<const T> dout;           // [batch * time, heads * D]
  HeadRows<T> dqkv;                 // [batch * time, 3 * heads * D], out
  const float* __restrict__ lse;    // [batch * heads * time]
  const float* __restrict__ delta;  // [batch * heads * time]
  bool accumulate;
};

constexpr int kDeltaRows = kAttentionThreads / 4;

/// delta = the sum of dout times out over a row of a head; four lanes per row, kDeltaRows per
/// block.
template <class T, int D>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_delta(HeadRows<const T> out,      // [batch * time, heads * D]
                    HeadRows<const T> dout,     // [batch * time, heads * D]
                    float* __restrict__ delta,  // [batch * heads * time], out
                    int heads, int time) {
  // Blocks next to each other read heads next to each other, of the same rows.
  const int head = static_cast<int>(blockIdx.x) % heads;
  const int tile = static_cast<int>(blockIdx.x) / heads;
  const int tiles = (time + kDeltaRows - 1) / kDeltaRows;
  const std::int64_t batch = tile / tiles;
  const int position = tile % tiles * kDeltaRows + static_cast<int>(threadIdx.x) / 4;
  const std::int64_t row = batch * time + position;
  const int lane = static_cast<int>(threadIdx.x) % 4;
  float sum = 0.0F;
  if (position < time) {
    const T* left = out.data + row * out.stride + head * D + lane * 8;
    const T* right = dout.data + row * dout.stride + head * D + lane * 8;
#pragma unroll
    for (int i = 0; i < D; i += 32) {
      const uint4 a = *reinterpret_cast<const uint4*>(left + i);
      const uint4 b = *reinterpret_cast<const uint4*>(right + i);
      const auto add = [&](std::uint32_t x, std::uint32_t y) {
        const float2 u = device::unpack_pair<T>(x);
        const float2 v = device::unpack_pair<T>(y);
        sum = fmaf(u.x, v.x, fmaf(u.y, v.y, sum));
      };
      add(a.x, b.x);
      add(a.y, b.y);
      add(a.z, b.z);
      add(a.w, b.w);
    }
  }
  sum += __shfl_xor_sync(0xffffffffU, sum, 1);
  sum += __shfl_xor_sync(0xffffffffU, sum, 2);
  if (position < time && lane == 0) delta[(batch * heads + head) * time + position] = sum;
}

template <class T, int D, bool kDropout>
__global__ void __launch_bounds__(kAttentionThreads) attention_backward_keys(BackwardArgs<T> args) {
  using Policy = KeyPolicy<D, kDropout>;
  constexpr int kRowTiles = Policy::kRowTiles;
  constexpr int kColumnTiles = Policy::kColumns / 8;
  extern __shared__ uint4 shared[];
  const AttentionOptions& options = args.options;
  const int time = options.time;
  const int tiles = (time + Policy::kRows - 1) / Policy::kRows;
  const int head_index = static_cast<int>(blockIdx.x) / tiles;
  const int first_key = static_cast<int>(blockIdx.x) % tiles * Policy::kRows;
  const int batch = head_index / options.heads;
  const int head = head_index % options.heads;
  const std::int64_t width = static_cast<std::int64_t>(options.heads) * D;
  const HeadRows<const T> queries = args.qkv.at(batch, time, head * D);
  const HeadRows<const T> dout = args.dout.at(batch, time, head * D);
  const float* lse = args.lse + static_cast<std::int64_t>(head_index) * time;
  const float* delta = args.delta + static_cast<std::int64_t>(head_index) * time;

  const std::uint32_t key_tile = device::shared_address(shared);
  const std::uint32_t value_tile = key_tile + tile_bytes<D>(Policy::kRows);
  constexpr int kStages = 2 * tile_bytes<D>(Policy::kRows);  // offset of the first stage
  constexpr int kLse = 2 * tile_bytes<D>(Policy::kColumns);  // of lse, then delta, in a stage
  const auto copy_queries = [&](int stage, int first) {
    const std::uint32_t to = key_tile + kStages + stage * Policy::kStage;
    copy_tile<T, D, Policy::kColumns>(to, queries, first, time);
    copy_tile<T, D, Policy::kColumns>(to + kLse / 2, dout, first, time);
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < 2 * Policy::kColumns) {
      const int query = first + thread % Policy::kColumns;
      const float* from = thread < Policy::kColumns ? lse : delta;
      device::copy_async_4(to + kLse + thread * 4, query < time ? from + query : from,
                           query < time);
    }
  };
  const int begin = options.causal ? first_key / Policy::kColumns * Policy::kColumns : 0;
  copy_tile<T, D, Policy::kRows>(key_tile, args.qkv.at(batch, time, head * D + width), first_key,
                                 time);
  copy_tile<T, D, Policy::kRows>(value_tile, args.qkv.at(batch, time, head * D + 2 * width),
                                 first_key, time);
  copy_queries(0, begin);

  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_offset = static_cast<int>(threadIdx.x) / 32 * 16 * kRowTiles;
  const int own_key = first_key + own_offset;  // first of the warp
  OwnRows<D, kRowTiles, false> keys(key_tile + tile_bytes<D>(1) * own_offset);
  OwnRows<D, kRowTiles, false> values(value_tile + tile_bytes<D>(1) * own_offset);
  float dk[kRowTiles][D / 8][4] = {};
  float dv[kRowTiles][D / 8][4] = {};

  for (int first = begin, stage = 0; first < time; first += Policy::kColumns, stage ^= 1) {
    device::wait_for_copies();
    __syncthreads();  // this tile is here, and all warps have finished with the other stage
    if (first + Policy::kColumns < time) copy_queries(stage ^ 1, first + Policy::kColumns);
    if (options.causal && first + Policy::kColumns <= own_key) continue;

    // Queries past the time are zero, as are their dout, lse and delta: they add nothing.
    const int offset = kStages + stage * Policy::kStage;
    const std::uint32_t query_tile = key_tile + offset;
    const std::uint32_t dout_tile = query_tile + kLse / 2;
    const auto* own_lse = reinterpret_cast<const float2*>(reinterpret_cast<const char*>(shared) +
                                                          offset + kLse + lane % 4 * 8);
    const float2* own_delta = own_lse + Policy::kColumns / 2;
    float p[kRowTiles][kColumnTiles][4];
    multiply_rows<T>(p, keys, query_tile);
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      const float2 shift = own_lse[n * 4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          p[m][n][i] = device::exp2_fast(fmaf(p[m][n][i], options.scale_log2,
                                              -device::kLog2E * (i % 2 == 0 ? shift.x : shift.y)));
        }
      }
    }
    if (options.causal && first < own_key + 16 * kRowTiles - 1) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int limit = own_key + m * 16 + i / 2 * 8 + lane / 4 - first;
#pragma unroll
          for (int n = 0; n < kColumnTiles; ++n) {
            if (n * 8 + lane % 4 * 2 + i % 2 < limit) p[m][n][i] = 0.0F;
          }
        }
      }
    }

    [[maybe_unused]] std::uint32_t kept[kRowTiles];
    if constexpr (kDropout) {
      float dropped[kRowTiles][kColumnTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        kept[m] = kept_elements<kColumnTiles, true>(options, head_index, own_key + m * 16, first);
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            dropped[m][n][i] = is_kept(kept[m], n, i) ? p[m][n][i] : 0.0F;
          }
        }
      }
      multiply_scores<T, D>(dv, dropped, dout_tile);
    } else {
      multiply_scores<T, D>(dv, p, dout_tile);
    }

    float ds[kRowTiles][kColumnTiles][4];
    multiply_rows<T>(ds, values, dout_tile);
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      const float2 shift = own_delta[n * 4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float dp = ds[m][n][i];
          if constexpr (kDropout) dp = is_kept(kept[m], n, i) ? dp * options.keep_scale : 0.0F;
          ds[m][n][i] = p[m][n][i] * (dp - (i % 2 == 0 ? shift.x : shift.y));
        }
      }
    }
    multiply_scores<T, D>(dk, ds, query_tile);
  }

  float factor[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
    factor[m][0] = factor[m][1] = options.scale;
  store_rows<T, D>(args.dqkv.at(batch, time, head * D + width), dk, factor, own_key, time,
                   args.accumulate);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    factor[m][0] = factor[m][1] = kDropout ? options.keep_scale : 1.0F;
  }
  store_rows<T, D>(args.dqkv.at(batch, time, head * D + 2 * width), dv, factor, own_key, time,
                   args.accumulate);
}

template <class T, int D, bool kDropout>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_backward_queries(BackwardArgs<T> args) {
  using Policy = QueryPolicy<D>;
  constexpr int kRowTiles = Policy::kRowTiles;
  constexpr int kColumnTiles = Policy::kColumns / 8;
  extern __shared__ uint4 shared[];
  const AttentionOptions& options = args.options;
  const int time = options.time;
  const int tiles = (time + Policy::kRows - 1) / Policy::kRows;
  const int head_index = static_cast<int>(blockIdx.x) / tiles;
  // The last tile of a causal head is the longest: it starts first.
  const int first_query = (tiles - 1 - static_cast<int>(blockIdx.x) % tiles) * Policy::kRows;
  const int batch = head_index / options.heads;
  const int head = head_index % options.heads;
  const std::int64_t width = static_cast<std::int64_t>(options.heads) * D;
  const HeadRows<const T> keys = args.qkv.at(batch, time, head * D + width);
  const HeadRows<const T> values = args.qkv.at(batch, time, head * D + 2 * width);

  const std::uint32_t query_tile = device::shared_address(shared);
  const std::uint32_t dout_tile = query_tile + tile_bytes<D>(Policy::kRows);
  const std::uint32_t stages = dout_tile + tile_bytes<D>(Policy::kRows);
  const auto copy_keys = [&](int stage, int first) {
    const std::uint32_t to = stages + stage * Policy::kStage;
    copy_tile<T, D, Policy::kColumns>(to, keys, first, time);
    copy_tile<T, D, Policy::kColumns>(to + Policy::kStage / 2, values, first, time);
  };
  copy_tile<T, D, Policy::kRows>(query_tile, args.qkv.at(batch, time, head * D), first_query, time);
  copy_tile<T, D, Policy::kRows>(dout_tile, args.dout.at(batch, time, head * D), first_query, time);
  copy_keys(0, 0);

  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_offset = static_cast<int>(threadIdx.x) / 32 * 16 * kRowTiles;
  const int own_query = first_query + own_offset;  // first of the warp
  OwnRows<D, kRowTiles, Policy::kKeepRows> queries(query_tile + tile_bytes<D>(1) * own_offset);
  OwnRows<D, kRowTiles, Policy::kKeepRows> douts(dout_tile + tile_bytes<D>(1) * own_offset);
  float dq[kRowTiles][D / 8][4] = {};
  float shift[kRowTiles][2];  // lse log2(e)
  float delta[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = own_query + m * 16 + half * 8 + lane / 4;
      const std::int64_t index = static_cast<std::int64_t>(head_index) * time + query;
      shift[m][half] = query < time ? args.lse[index] * device::kLog2E : 0.0F;
      delta[m][half] = query < time ? args.delta[index] : 0.0F;
    }
  }

  const int end = options.causal ? min(time, first_query + Policy::kRows) : time;
  for (int first = 0, stage = 0; first < end; first += Policy::kColumns, stage ^= 1) {
    device::wait_for_copies();
    __syncthreads();  // this tile is here, and all warps have finished with the other stage
    if (first == 0) {
      queries.fetch();
      douts.fetch();
    }
    if (first + Policy::kColumns < end) copy_keys(stage ^ 1, first + Policy::kColumns);
    if (options.causal && first >= own_query + 16 * kRowTiles) continue;

    const std::uint32_t own_stage = stages + stage * Policy::kStage;
    float p[kRowTiles][kColumnTiles][4];
    multiply_rows<T>(p, queries, own_stage);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          p[m][n][i] = device::exp2_fast(fmaf(p[m][n][i], options.scale_log2, -shift[m][i / 2]));
        }
      }
    }
    if (first + Policy::kColumns > (options.causal ? min(time, own_query + 1) : time)) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int query = own_query + m * 16 + i / 2 * 8 + lane / 4;
          const int limit = (options.causal ? min(time, query + 1) : time) - first;
#pragma unroll
          for (int n = 0; n < kColumnTiles; ++n) {
            if (n * 8 + lane % 4 * 2 + i % 2 >= limit) p[m][n][i] = 0.0F;
          }
        }
      }
    }

    float ds[kRowTiles][kColumnTiles][4];
    multiply_rows<T>(ds, douts, own_stage + Policy::kStage / 2);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      [[maybe_unused]] std::uint32_t kept = 0;
      if constexpr (kDropout) {
        kept = kept_elements<kColumnTiles, false>(options, head_index, own_query + m * 16, first);
      }
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float dp = ds[m][n][i];
          if constexpr (kDropout) dp = is_kept(kept, n, i) ? dp * options.keep_scale : 0.0F;
          ds[m][n][i] = p[m][n][i] * (dp - delta[m][i / 2]);
        }
      }
    }
    multiply_scores<T, D>(dq, ds, own_stage);
  }

  float factor[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m)
    factor[m][0] = factor[m][1] = options.scale;
  store_rows<T, D>(args.dqkv.at(batch, time, head * D), dq, factor, own_query, time,
                   args.accumulate);
}

}  // namespace

void attention_fused_backward(const AttentionBackward& args, CudaStream stream) {
  const AttentionShape& shape = args.shape;
  const std::int64_t heads = shape.batch * shape.heads;
  if (args.write == GradWrite::skip || heads * shape.time == 0) return;
  with_attention_instance(shape, args.qkv.dtype, [&]<class T, int D, bool kDropout>() {
    const HeadRows<const T> dout{args.dout.as<const T>(), static_cast<int>(args.dout.stride)};
    const auto tiles = [&](int rows) { return (shape.time + rows - 1) / rows * heads; };
    launch_attention(attention_delta<T, D>, tiles(kDeltaRows), 0, stream,
                     HeadRows<const T>{args.out.as<const T>(), static_cast<int>(args.out.stride)},
                     dout, args.workspace.as<float>(), static_cast<int>(shape.heads),
                     static_cast<int>(shape.time));
    const BackwardArgs<T> backward{
        .options = attention_options(shape),
        .qkv = {args.qkv.as<const T>(), static_cast<int>(args.qkv.stride)},
        .dout = dout,
        .dqkv = {args.dqkv.as<T>(), static_cast<int>(args.dqkv.stride)},
        .lse = args.lse.as<float>(),
        .delta = args.workspace.as<float>(),
        .accumulate = args.write == GradWrite::accumulate};
    launch_attention(attention_backward_keys<T, D, kDropout>, tiles(KeyPolicy<D, kDropout>::kRows),
                     KeyPolicy<D, kDropout>::kSharedBytes, stream, backward);
    launch_attention(attention_backward_queries<T, D, kDropout>, tiles(QueryPolicy<D>::kRows),
                     QueryPolicy<D>::kSharedBytes, stream, backward);
  });
}

}  // namespace lamina::kernels
