// SPDX-License-Identifier: MIT
// Hopper attention, backward, without atomics: one kernel owns queries and makes dq, and delta on
// the way, one owns keys and makes dk and dv; both compute the scores again. In both the weights go
// from the accumulators of one product to the registers of the next: nothing but the operands is in
// shared memory, and no partial sum of dq leaves the chip. That costs seven products instead of
// five. Dao 2023, "FlashAttention-2", algorithm 2, https://arxiv.org/abs/2307.08691, and Shah et
// al. 2024, "FlashAttention-3", https://arxiv.org/abs/2407.08608 (both in one kernel that adds up
// dq in memory).
//   p = exp(scale q k^T - lse), dv = dropped(p)^T dout, dp = dropped(dout v^T),
//   ds = p (dp - delta), dq = scale ds k, dk = scale ds^T q
#include "core/device.h"
#include "cuda_kernels/attention_hopper.cuh"
#include "cuda_kernels/attention_hopper.h"
#include "cuda_kernels/column_partials.cuh"

namespace lamina::kernels {
namespace {

template <int D>
struct QueryPolicy {
  static constexpr int kWarpgroups = D == 64 ? 2 : 3;
  static constexpr int kBlocks = D == 64 ? 2 : 1;  // on a multiprocessor: 128 or 168 registers
  static constexpr int kThreads = kWarpgroups * device::kWarpgroup;
  static constexpr int kStages = D == 64 ? 4 : 3;
  static constexpr int kAhead = kStages - 2;  // copied ahead: no wait for a late warpgroup
  static_assert(kAhead > 0);
  static_assert(kStages >= kWarpgroups);  // causal: the first is done that many blocks earlier
  static constexpr int kOwnBytes = 2 * kBlockBytes<D>;    // queries and dout of a warpgroup
  static constexpr int kStageBytes = 2 * kBlockBytes<D>;  // keys and values
  static constexpr int kSharedBytes = kWarpgroups * kOwnBytes + kStages * kStageBytes;
};

/// Warpgroups that multiply, and one that only copies and gives them its registers.
template <int D, bool kDropout>
struct KeyPolicy {
  static constexpr int kWarpgroups = D == 64 && !kDropout ? 3 : 2;
  static constexpr int kThreads = (kWarpgroups + 1) * device::kWarpgroup;
  static constexpr int kRegisters = kWarpgroups == 3 ? 160 : 240;
  static constexpr int kCopierRegisters = 24;
  static_assert((kWarpgroups * kRegisters + kCopierRegisters) * device::kWarpgroup <= 65536);
  static constexpr int kStages = D == 64 ? 4 : 3;
  static constexpr int kTiles = 2;  // in shared memory, so that the next one is there in time
  static constexpr int kOwnBytes = 2 * kBlockBytes<D>;  // keys and values of a warpgroup
  static constexpr int kTileBytes = kWarpgroups * kOwnBytes;
  static constexpr int kStageBytes = 2 * kBlockBytes<D>;  // queries and dout
  static constexpr int kSharedBytes = kTiles * kTileBytes + kStages * kStageBytes;
};

template <class T>
struct BackwardArgs {
  CUtensorMap qkv;   // [batch, time, 3 * heads, D]
  CUtensorMap dout;  // [batch, time, heads, D]
  AttentionOptions options;
  PhiloxRounds rounds;                    // of the options' key
  HeadRows<const T> out_rows, dout_rows;  // [batch * time, heads * D]
  HeadRows<T> dqkv;                       // [batch * time, 3 * heads * D], out
  const float* __restrict__ lse;          // [batch * heads * time]
  float* statistics;   // [batch * heads, row_blocks(time), 2, kBlockRows]; written by one kernel,
                       // read by the other
  float* column_sums;  // [batch * row_blocks(time), 3 * heads * D], or null
  int head_count;      // batch * heads
  bool accumulate;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// This lane's part of the sum of left times right over row `row` of a head: the sum over the four
/// lanes of a quad is that of the row.
template <class T, int D>
__device__ __forceinline__ float partial_dot(HeadRows<const T> left, HeadRows<const T> right,
                                             int row) {
  const std::int64_t column = static_cast<int>(threadIdx.x) % 4 * 8;
  const T* a = left.data + static_cast<std::int64_t>(row) * left.stride + column;
  const T* b = right.data + static_cast<std::int64_t>(row) * right.stride + column;
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < D; i += 32) {
    const uint4 x = *reinterpret_cast<const uint4*>(a + i);
    const uint4 y = *reinterpret_cast<const uint4*>(b + i);
    const std::uint32_t xs[] = {x.x, x.y, x.z, x.w};
    const std::uint32_t ys[] = {y.x, y.y, y.z, y.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 u = device::unpack_pair<T>(xs[j]);
      const float2 v = device::unpack_pair<T>(ys[j]);
      sum = fmaf(u.x, v.x, fmaf(u.y, v.y, sum));
    }
  }
  return sum;
}

/// Adds up the columns of a tile of 64 rows, of which the first `rows` count, that store_block()
/// of this warpgroup has left in shared memory. One warp does; all must have stored.
template <class T>
__device__ __forceinline__ void sum_columns(float* to, std::uint32_t tile, int rows) {
  const std::uint32_t lane = device::thread_again() % 32;  // for two columns
  float2 sum{};
#pragma unroll 8
  for (std::uint32_t row = 0; row < kBlockRows; ++row) {
    const float2 values = device::unpack_pair<T>(
        device::load_shared_4(tile + row * 128 + (lane / 4 ^ row % 8) * 16 + lane % 4 * 4));
    if (static_cast<int>(row) >= rows) continue;
    sum.x += values.x;
    sum.y += values.y;
  }
  *reinterpret_cast<float2*>(to + lane * 2) = sum;
}

#endif

/// dq, and the statistics that the kernel of the keys reads.
template <class T, int D, bool kDropout>
__global__ void __launch_bounds__(QueryPolicy<D>::kThreads, QueryPolicy<D>::kBlocks)
    attention_hopper_queries(const __grid_constant__ BackwardArgs<T> args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Policy = QueryPolicy<D>;
  constexpr int kStages = Policy::kStages;
  __shared__ std::uint64_t barriers[1 + 2 * kStages];
  extern __shared__ uint4 shared[];
  const AttentionOptions& options = args.options;
  const int time = options.time;
  const int blocks = row_blocks(time);
  const QueryTile own(static_cast<int>(blockIdx.x), blocks, Policy::kWarpgroups, args.head_count);
  const int batch = own.head / options.heads;
  const int head = own.head % options.heads;
  const int warpgroup = own_warpgroup();
  const int own_block = own.tile * Policy::kWarpgroups + warpgroup;  // of queries
  const int count = options.causal ? min(blocks, own_block + 1) : blocks;

  const std::uint32_t queries = tile_storage(shared);
  const std::uint32_t stages = queries + Policy::kWarpgroups * Policy::kOwnBytes;
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
    device::arrive_expecting(queries_here, Policy::kWarpgroups * Policy::kOwnBytes);
    for (int i = 0; i < Policy::kWarpgroups; ++i) {
      const std::uint32_t to = queries + i * Policy::kOwnBytes;
      const int first = (own.tile * Policy::kWarpgroups + i) * kBlockRows;
      copy_block<D>(to, args.qkv, head, first, batch, queries_here);
      copy_block<D>(to + kBlockBytes<D>, args.dout, head, first, batch, queries_here);
    }
    for (int n = 0; n < min(Policy::kAhead, count); ++n)
      copy_keys(n);
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int own_query = own_block * kBlockRows + warp * 16;  // first of the warp
  float shift[2];                                            // log2(e) lse
  float delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = own_query + half * 8 + lane / 4;
    const bool exists = query < time;
    float sum = exists ? partial_dot<T, D>(args.out_rows.at(batch, time, head * D),
                                           args.dout_rows.at(batch, time, head * D), query)
                       : 0.0F;
    sum += __shfl_xor_sync(0xffffffffU, sum, 1);
    delta[half] = sum + __shfl_xor_sync(0xffffffffU, sum, 2);
    shift[half] =
        exists ? args.lse[static_cast<std::int64_t>(own.head) * time + query] * device::kLog2E
               : std::numeric_limits<float>::infinity();
    if (lane % 4 == 0 && own_block < blocks) {
      float* to = args.statistics +
                  (static_cast<std::int64_t>(own.head) * blocks + own_block) * 2 * kBlockRows +
                  query % kBlockRows;
      to[0] = shift[half];
      to[kBlockRows] = delta[half];
    }
  }

  const std::uint32_t own_queries =
      device::tile_descriptor(queries + warpgroup * Policy::kOwnBytes);
  const std::uint32_t own_dout = device::advance(own_queries, kBlockBytes<D>);
  const std::uint32_t first_stage = device::tile_descriptor(stages);
  const auto key_block = [&](int n) {
    return device::advance(first_stage, n % kStages * Policy::kStageBytes);
  };
  float p[8][4];   // scores, then weights
  float ds[8][4];  // dp, then ds
  float dq[D / 64][1][8][4] = {};
  [[maybe_unused]] std::uint32_t kept = 0;
  // Before the products are there: the draw takes registers.
  const auto draw = [&](int n) {
    if constexpr (kDropout) {
      kept = draw_kept<false>(options, args.rounds, own.head, own_query, n * kBlockRows);
    }
  };
  const auto multiply_keys = [&](int n) {
    multiply_blocks<T, D>(p, own_queries, key_block(n));
    device::end_products();
  };
  const auto multiply_values = [&](int n) {
    multiply_blocks<T, D>(ds, own_dout, device::advance(key_block(n), kBlockBytes<D>));
    device::end_products();
  };
  draw(0);
  device::wait_for_phase(queries_here, 0);
  device::wait_for_phase(full(0), 0);
  device::begin_products();
  multiply_keys(0);
  multiply_values(0);
  device::wait_for_products<0>();
  device::pin(p);
  device::pin(ds);

  // With the products of block n: makes ds, adds to dq, and starts on the next block.
  const auto attend = [&]<bool kLast>(int n) {
    const int first_key = n * kBlockRows;
    const bool is_masked = kLast && (options.causal || first_key + kBlockRows > time);
    const int limit = (options.causal ? min(time, own_query + lane / 4 + 1) : time) - first_key;
#pragma unroll
    for (int column = 0; column < 8; ++column) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float weight = device::exp2_fast(fmaf(p[column][i], options.scale_log2, -shift[i / 2]));
        // Row g + 8 sees 8 keys more if causal.
        const int own_limit = limit + (options.causal ? i / 2 * 8 : 0);
        if (is_masked && column * 8 + lane % 4 * 2 + i % 2 >= own_limit) weight = 0.0F;
        float dp = ds[column][i];
        if constexpr (kDropout) dp = is_kept(kept, column, i) ? dp * options.keep_scale : 0.0F;
        ds[column][i] = weight * (dp - delta[i / 2]);
      }
    }
    std::uint32_t weights[4][4];
    pack_weights<T>(weights, ds);
    if constexpr (!kLast) {
      if (is_copier && n + Policy::kAhead < count) copy_keys(n + Policy::kAhead);
      __syncwarp();
      draw(n + 1);
      device::wait_for_phase(full(n + 1), parity(n + 1));
    }
    device::pin(weights);
    pin(dq);
    device::pin(p);
    device::begin_products();
    multiply_weights<T, D>(dq, weights, key_block(n));
    device::end_products();
    if constexpr (!kLast) {
      multiply_keys(n + 1);
      device::wait_for_products<1>();  // frees the registers of the weights for dp
      device::pin(weights);
      pin(dq);
      if (lane == 0) device::arrive(empty(n));
      device::pin(ds);
      device::begin_products();
      multiply_values(n + 1);
    }
    device::wait_for_products<0>();
    pin(dq);
    device::pin(p);
    device::pin(ds);
  };
  for (int n = 0; n < count - 1; ++n)
    attend.template operator()<false>(n);
  attend.template operator()<true>(count - 1);

  const float factor[1][2] = {{options.scale, options.scale}};
  device::wait_for_warpgroup(warpgroup);  // all products have read their queries
  const std::uint32_t own_tiles = queries + warpgroup * Policy::kOwnBytes;
  store_block<T, D>(args.dqkv.at(batch, time, head * D), dq, factor, own_tiles, own_query, time,
                    args.accumulate);
  if (args.column_sums == nullptr || own_block >= blocks) return;
  device::wait_for_warpgroup(warpgroup);
  if (warp < D / device::kTileColumns) {
    sum_columns<T>(
        args.column_sums +
            static_cast<std::int64_t>(batch * blocks + own_block) * 3 * options.heads * D +
            head * D + warp * device::kTileColumns,
        own_tiles + warp * device::kTileBytes, time - own_block * kBlockRows);
  }
#endif
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The work of one thread block: tiles of kWarpgroups blocks of keys. A group of as many heads as
/// there are thread blocks is shared out at a time, longest tiles first, and back and forth, so
/// that all get about as much: of a whole group one head each.
class KeyTiles {
 public:
  __device__ KeyTiles(int blocks, int warpgroups, int heads)
      : tiles_((blocks + warpgroups - 1) / warpgroups), heads_(heads) {}

  __device__ bool next() {
    const int width = static_cast<int>(gridDim.x);
    const int place = static_cast<int>(blockIdx.x);
    const int index = round_ * width + (round_ % 2 == 0 ? place : width - 1 - place);
    ++round_;
    const int first = index / (width * tiles_) * width;
    if (first >= heads_) return false;
    const int rest = index - first * tiles_;
    const int group = min(width, heads_ - first);
    tile = rest / group;
    head = first + rest % group;
    return tile < tiles_;
  }

  int head = 0;  // of batch * heads
  int tile = 0;

 private:
  int tiles_, heads_;
  int round_ = 0;
};

#endif

/// dk and dv.
template <class T, int D, bool kDropout>
__global__ void __launch_bounds__(KeyPolicy<D, kDropout>::kThreads, 1)
    attention_hopper_keys(const __grid_constant__ BackwardArgs<T> args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Policy = KeyPolicy<D, kDropout>;
  constexpr int kStages = Policy::kStages;
  constexpr int kTiles = Policy::kTiles;
  __shared__ std::uint64_t barriers[2 * kStages + 2 * kTiles];
  extern __shared__ uint4 shared[];
  const AttentionOptions& options = args.options;
  const int time = options.time;
  const int blocks = row_blocks(time);
  const int warpgroup = own_warpgroup();

  const std::uint32_t key_tiles = tile_storage(shared);
  const std::uint32_t stages = key_tiles + kTiles * Policy::kTileBytes;
  const std::uint32_t first_barrier = device::shared_address(barriers);
  const auto full = [&](int n) { return first_barrier + n % kStages * 8; };
  const auto empty = [&](int n) { return first_barrier + (kStages + n % kStages) * 8; };
  const auto parity = [&](int n) { return n / kStages % 2; };
  const auto tile_full = [&](int n) { return first_barrier + (2 * kStages + n % kTiles) * 8; };
  const auto tile_empty = [&](int n) {
    return first_barrier + (2 * kStages + kTiles + n % kTiles) * 8;
  };
  const auto tile_parity = [&](int n) { return n / kTiles % 2; };
  if (threadIdx.x == 0) {
    for (int n = 0; n < kStages; ++n) {
      device::open_barrier(full(n), 1);
      device::open_barrier(empty(n), Policy::kWarpgroups * 4);
    }
    for (int n = 0; n < kTiles; ++n) {
      device::open_barrier(tile_full(n), 1);
      device::open_barrier(tile_empty(n), Policy::kWarpgroups * 4);
    }
    device::publish_barriers();
  }
  wait_for_previous_kernel();
  start_next_kernel();
  __syncthreads();

  KeyTiles work(blocks, Policy::kWarpgroups, args.head_count);
  if (warpgroup == Policy::kWarpgroups) {
    device::give_registers<Policy::kCopierRegisters>();
    if (threadIdx.x != Policy::kWarpgroups * device::kWarpgroup) return;
    int n = 0;  // blocks of queries so far, of all tiles
    for (int item = 0; work.next(); ++item) {
      const int batch = work.head / options.heads;
      const int head = work.head % options.heads;
      const int first_block = work.tile * Policy::kWarpgroups;
      if (item >= kTiles) device::wait_for_phase(tile_empty(item), tile_parity(item - kTiles));
      const std::uint32_t tile = key_tiles + item % kTiles * Policy::kTileBytes;
      device::arrive_expecting(tile_full(item), Policy::kTileBytes);
      for (int i = 0; i < Policy::kWarpgroups; ++i) {
        const std::uint32_t to = tile + i * Policy::kOwnBytes;
        const int first = (first_block + i) * kBlockRows;
        copy_block<D>(to, args.qkv, options.heads + head, first, batch, tile_full(item));
        copy_block<D>(to + kBlockBytes<D>, args.qkv, 2 * options.heads + head, first, batch,
                      tile_full(item));
      }
      for (int block = options.causal ? first_block : 0; block < blocks; ++block, ++n) {
        if (n >= kStages) device::wait_for_phase(empty(n), parity(n - kStages));
        const std::uint32_t to = stages + n % kStages * Policy::kStageBytes;
        device::arrive_expecting(full(n), Policy::kStageBytes);
        copy_block<D>(to, args.qkv, head, block * kBlockRows, batch, full(n));
        copy_block<D>(to + kBlockBytes<D>, args.dout, head, block * kBlockRows, batch, full(n));
      }
    }
  } else {
    device::take_registers<Policy::kRegisters>();
    const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const std::uint32_t first_stage = device::tile_descriptor(stages);
    const auto query_block = [&](int n) {
      return device::advance(first_stage, n % kStages * Policy::kStageBytes);
    };
    int n = 0;  // blocks of queries so far, of all tiles
    for (int item = 0; work.next(); ++item) {
      const int own_block = work.tile * Policy::kWarpgroups + warpgroup;  // of keys
      const int own_key = own_block * kBlockRows + warp * 16;             // first of the warp
      const int begin = options.causal ? work.tile * Policy::kWarpgroups : 0;
      // Blocks that hide all own keys, or all blocks where there are no own keys, pass unused.
      const int used_from = own_block >= blocks ? blocks : options.causal ? own_block : 0;
      const std::uint32_t own_tile =
          key_tiles + item % kTiles * Policy::kTileBytes + warpgroup * Policy::kOwnBytes;
      const std::uint32_t keys = device::tile_descriptor(own_tile);
      const std::uint32_t values = device::advance(keys, kBlockBytes<D>);
      float dk[D / 64][1][8][4] = {};
      float dv[D / 64][1][8][4] = {};
      device::wait_for_phase(tile_full(item), tile_parity(item));
      for (int block = begin; block < used_from; ++block, ++n) {
        device::wait_for_phase(full(n), parity(n));
        if (lane == 0) device::arrive(empty(n));
      }

      for (int block = used_from; block < blocks; ++block, ++n) {
        // Lane i has those of queries 2 i and 2 i + 1; they arrive while products run. 32 bits do:
        // a qkv of 2^32 rows of a head would take 1.6 TB.
        const float2* const statistics =
            reinterpret_cast<const float2*>(args.statistics) +
            (static_cast<std::uint32_t>(work.head * blocks + block) * kBlockRows +
             device::thread_again() % 32);
        const float2 shifts = __ldcg(statistics);
        const float2 deltas = __ldcg(statistics + kBlockRows / 2);
        [[maybe_unused]] std::uint32_t kept = 0;
        if constexpr (kDropout) {
          kept = draw_kept<true>(options, args.rounds, work.head, own_key, block * kBlockRows);
        }
        float p[8][4];   // scores, then weights
        float ds[8][4];  // dp, then ds
        device::wait_for_phase(full(n), parity(n));
        device::begin_products();
        multiply_blocks<T, D>(p, keys, query_block(n));
        multiply_blocks<T, D>(ds, values, device::advance(query_block(n), kBlockBytes<D>));
        device::end_products();
        device::wait_for_products<0>();
        device::pin(p);
        device::pin(ds);

        if (options.causal && block == own_block) {  // queries before the key do not see it
          const int limit = warp * 16 + lane / 4 - lane % 4 * 2;
#pragma unroll
          for (int column = 0; column < 8; ++column) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              if (column * 8 + i % 2 - i / 2 * 8 < limit) {
                p[column][i] = -std::numeric_limits<float>::infinity();
              }
            }
          }
        }
        std::uint32_t weights[4][4];
        std::uint32_t ds_weights[4][4];
        const int quad_lane = static_cast<int>(device::thread_again() % 4);
#pragma unroll
        for (int column = 0; column < 8; ++column) {
          const float2 shift = device::shuffle(shifts, column * 4 + quad_lane);
          const float2 delta = device::shuffle(deltas, column * 4 + quad_lane);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float weight = device::exp2_fast(
                fmaf(p[column][i], options.scale_log2, -(i % 2 == 0 ? shift.x : shift.y)));
            const float own_delta = i % 2 == 0 ? delta.x : delta.y;
            p[column][i] = weight;
            if constexpr (kDropout) {
              const bool keep = is_kept(kept, column, i);
              ds[column][i] = keep ? ds[column][i] * options.keep_scale : 0.0F;
              if (!keep) p[column][i] = 0.0F;
            }
            ds[column][i] = weight * (ds[column][i] - own_delta);
          }
          if (column % 2 == 1) {
            pack_columns<T>(weights[column / 2], p, column / 2);
            pack_columns<T>(ds_weights[column / 2], ds, column / 2);
          }
        }
        device::pin(weights);
        device::pin(ds_weights);
        pin(dv);
        pin(dk);
        device::begin_products();
        multiply_weights<T, D>(dv, weights, device::advance(query_block(n), kBlockBytes<D>));
        multiply_weights<T, D>(dk, ds_weights, query_block(n));
        device::end_products();
        device::wait_for_products<0>();
        device::pin(weights);
        device::pin(ds_weights);
        pin(dv);
        pin(dk);
        if (lane == 0) device::arrive(empty(n));
      }
      const int batch = work.head / options.heads;
      const int head = work.head % options.heads;
      const int width = options.heads * D;
      const float dk_factor[1][2] = {{options.scale, options.scale}};
      const float dv_scale = kDropout ? options.keep_scale : 1.0F;
      const float dv_factor[1][2] = {{dv_scale, dv_scale}};
      device::wait_for_warpgroup(warpgroup);  // all products have read their keys and values
      // own_key once more, so that the loop keeps no register for it.
      const int first_key =
          own_block * kBlockRows + static_cast<int>(device::thread_again()) / 32 % 4 * 16;
      store_block<T, D>(args.dqkv.at(batch, time, head * D + width), dk, dk_factor, own_tile,
                        first_key, time, args.accumulate);
      store_block<T, D>(args.dqkv.at(batch, time, head * D + 2 * width), dv, dv_factor,
                        own_tile + kBlockBytes<D>, first_key, time, args.accumulate);
      constexpr int kOwnTiles = D / device::kTileColumns;  // of dk, and as many of dv
      if (args.column_sums != nullptr && own_block < blocks) {
        device::wait_for_warpgroup(warpgroup);
        const int tile = static_cast<int>(device::thread_again()) / 32 % 4;
        if (tile < 2 * kOwnTiles) {
          sum_columns<T>(args.column_sums +
                             static_cast<std::int64_t>(batch * blocks + own_block) * 3 * width +
                             (1 + tile / kOwnTiles) * width + head * D +
                             tile % kOwnTiles * device::kTileColumns,
                         own_tile + tile * device::kTileBytes, time - own_block * kBlockRows);
        }
      }
      device::publish_to_copies();
      __syncwarp();
      if (lane == 0) device::arrive(tile_empty(item));
    }
  }
#endif
}

}  // namespace

void attention_hopper_backward(const AttentionBackward& args, CudaStream stream) {
  const AttentionShape& shape = args.shape;
  const std::int64_t heads = shape.batch * shape.heads;
  if (args.write == GradWrite::skip || heads * shape.time == 0) return;
  const int blocks = row_blocks(shape.time);
  const std::int64_t multiprocessors =
      device_info({DeviceKind::cuda, stream.device}).multiprocessors;
  with_hopper_instance(shape, args.qkv.dtype, [&]<class T, int D, bool kDropout>() {
    const BackwardArgs<T> backward{
        .qkv = head_tensor_map(args.qkv, shape, 3 * shape.heads),
        .dout = head_tensor_map(args.dout, shape, shape.heads),
        .options = attention_options(shape),
        .rounds = PhiloxRounds(shape.key.seed),
        .out_rows = {args.out.as<const T>(), static_cast<int>(args.out.stride)},
        .dout_rows = {args.dout.as<const T>(), static_cast<int>(args.dout.stride)},
        .dqkv = {args.dqkv.as<T>(), static_cast<int>(args.dqkv.stride)},
        .lse = args.lse.as<float>(),
        .statistics = args.workspace.as<float>(),
        .column_sums = args.column_sum
                           ? args.workspace.as<float>() + heads * blocks * (kStatisticsBytes / 4)
                           : nullptr,
        .head_count = static_cast<int>(heads),
        .accumulate = args.write == GradWrite::accumulate};
    launch_hopper(attention_hopper_queries<T, D, kDropout>,
                  heads * QueryTile::count(blocks, QueryPolicy<D>::kWarpgroups),
                  QueryPolicy<D>::kThreads, QueryPolicy<D>::kSharedBytes, stream, backward);
    const std::int64_t tiles =
        heads * QueryTile::count(blocks, KeyPolicy<D, kDropout>::kWarpgroups);
    launch_hopper(attention_hopper_keys<T, D, kDropout>, std::min(tiles, multiprocessors),
                  KeyPolicy<D, kDropout>::kThreads, KeyPolicy<D, kDropout>::kSharedBytes, stream,
                  backward);
    if (!args.column_sum) return;
    launch_add_splits(backward.column_sums, args.column_sum.as<float>(), shape.batch * blocks, 1,
                      args.dqkv.cols, args.dqkv.cols, args.dqkv.cols, false, stream);
    LAMINA_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace lamina::kernels
