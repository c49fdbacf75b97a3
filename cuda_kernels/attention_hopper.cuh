// SPDX-License-Identifier: MIT
// What the Hopper attention kernels share: tensor maps, tiles of a head in shared memory, products
// on them, and the choice of an instance. A warpgroup owns 64 rows; a block of rows of a head of
// size D is D / 64 tiles (device/wgmma.cuh), first the one of columns 0 ... 63.
#pragma once

#include "core/cuda/check.h"
#include "core/view.h"
#include "cuda_kernels/device/attention_tile.cuh"
#include "cuda_kernels/device/wgmma.cuh"
#include "cuda_kernels/launch_kernel.cuh"

#include <cuda.h>
#include <cuda_runtime.h>

#include <concepts>
#include <cstdint>

namespace lamina::kernels {

inline constexpr int kBlockRows = device::kTileRows;

/// Bytes of 64 rows of a head.
template <int D>
inline constexpr int kBlockBytes = D / device::kTileColumns* device::kTileBytes;

/// Blocks of 64 rows of a head.
template <std::integral Int>
__host__ __device__ constexpr int row_blocks(Int time) {
  return static_cast<int>((time + kBlockRows - 1) / kBlockRows);
}

/// Bytes of workspace for a block of queries in the backward pass: log2(e) lse, then delta = the
/// sum of dout times out over a row. Past the time they are infinity and 0, with which weights are
/// 0.
inline constexpr int kStatisticsBytes = 2 * kBlockRows * 4;

/// Which tile of `warpgroups` blocks of queries a thread block has, and of which head.
struct QueryTile {
  int head;  // of batch * heads
  int tile;

  /// Tiles of a head.
  static std::int64_t count(std::int64_t blocks, int warpgroups) {
    return (blocks + warpgroups - 1) / warpgroups;
  }

  /// By blockIdx.x: a group of heads at a time, whose keys and values stay in L2 and whose tiles
  /// fill the device about once; of a group the last tiles, which are the longest if causal, come
  /// first.
  __device__ QueryTile(int index, int blocks, int warpgroups, int heads) {
    constexpr int kGroup = 32;
    const int tiles = (blocks + warpgroups - 1) / warpgroups;
    const int first = index / (kGroup * tiles) * kGroup;
    const int rest = index - first * tiles;
    const int group = min(kGroup, heads - first);
    tile = tiles - 1 - rest / group;
    head = first + rest % group;
  }
};

/// The tensor map of a matrix [batch * time, heads * head_size] as [batch, time, heads, head_size],
/// for copies of tiles. `heads` counts all that a row holds: 3 times the heads of a packed qkv.
CUtensorMap head_tensor_map(const Rows& rows, const AttentionShape& shape, std::int64_t heads);

/// Launches `kernel` with `bytes` of tiles in dynamic shared memory. It must call
/// wait_for_previous_kernel().
template <class Args>
void launch_hopper(void (*kernel)(Args), std::int64_t blocks, int threads, int bytes,
                   CudaStream stream, const Args& args) {
  constexpr int kAlignment = 1024;  // see tile_storage()
  LAMINA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         bytes + kAlignment));
  launch_kernel(kernel,
                {.grid = dim3(static_cast<unsigned>(blocks)),
                 .block = dim3(static_cast<unsigned>(threads)),
                 .shared_bytes = static_cast<std::size_t>(bytes + kAlignment)},
                stream, args);
}

/// Calls f.template operator()<T, head size, has dropout>() for a supported shape.
template <class F>
void with_hopper_instance(const AttentionShape& shape, DType dtype, const F& f) {
  const auto with_dropout = [&]<class T, int D>() {
    shape.drop_p > 0.0F ? f.template operator()<T, D, true>()
                        : f.template operator()<T, D, false>();
  };
  const auto with_size = [&]<class T>() {
    shape.head_size == 64 ? with_dropout.template operator()<T, 64>()
                          : with_dropout.template operator()<T, 128>();
  };
  dtype == DType::bf16 ? with_size.template operator()<__nv_bfloat16>()
                       : with_size.template operator()<__half>();
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// This thread's warpgroup, in a form that the compiler knows to be the same for a warp: branches
/// that depend on it do not make it serialise products.
__device__ __forceinline__ int own_warpgroup() {
  return __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / device::kWarpgroup, 0);
}

/// The first address of dynamic shared memory at which a tile may lie.
__device__ __forceinline__ std::uint32_t tile_storage(const void* shared) {
  return (device::shared_address(shared) + 1023U) & ~1023U;
}

/// Copies rows first ... first + 63 of a head. The barrier must expect kBlockBytes<D>.
template <int D>
__device__ __forceinline__ void copy_block(std::uint32_t to, const CUtensorMap& map, int head,
                                           int first, int batch, std::uint32_t barrier) {
#pragma unroll
  for (int i = 0; i < D / device::kTileColumns; ++i) {
    device::copy_tile_async(to + i * device::kTileBytes, &map, i * device::kTileColumns, head,
                            first, batch, barrier);
  }
}

/// Offset of 16 columns, the k-th, of a block.
__host__ __device__ constexpr int column_offset(int k) {
  return k / 4 * device::kTileBytes + k % 4 * 32;
}

/// scores = left right^T for two blocks. Asynchronous.
template <class T, int D>
__device__ __forceinline__ void multiply_blocks(float (&scores)[8][4], std::uint32_t left,
                                                std::uint32_t right) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    device::multiply_shared<T>(scores, device::advance(left, column_offset(k)),
                               device::advance(right, column_offset(k)), k > 0);
  }
}

/// The same with the left block in registers, as fetch_block() leaves it.
template <class T, int D>
__device__ __forceinline__ void multiply_blocks(float (&scores)[8][4],
                                                const std::uint32_t (&left)[D / 16][4],
                                                std::uint32_t right) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    device::multiply_registers<T, false>(scores, left[k], device::advance(right, column_offset(k)),
                                         k > 0);
  }
}

/// The address, in the first tile of a block, of the 16 bytes that this thread gives to
/// load_matrices() and store_matrices() for columns 16 k ... 16 k + 15 of its warp's 16 rows.
__device__ __forceinline__ std::uint32_t own_unit(std::uint32_t thread, std::uint32_t block,
                                                  int k) {
  const std::uint32_t lane = thread % 32;
  const std::uint32_t row = thread % device::kWarpgroup / 32 * 16 + lane % 16;
  return block + row * 128 + ((k * 2 + lane / 16) ^ (row % 8)) * 16;
}

/// The own 16 rows of each warp of a block, as a operands.
template <int D>
__device__ __forceinline__ void fetch_block(std::uint32_t (&rows)[D / 16][4], std::uint32_t block) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    device::load_matrices(rows[k],
                          own_unit(threadIdx.x, block + k / 4 * device::kTileBytes, k % 4));
  }
}

/// sum += weights block, with weights [64, 64] from pack_weights(). Asynchronous.
template <class T, int D>
__device__ __forceinline__ void multiply_weights(float (&sum)[D / 64][1][8][4],
                                                 const std::uint32_t (&weights)[4][4],
                                                 std::uint32_t block) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int i = 0; i < D / 64; ++i) {
      device::multiply_registers<T, true>(
          sum[i][0], weights[k], device::advance(block, i * device::kTileBytes + k * 2048), true);
    }
  }
}

/// Rounds columns 16 k ... 16 k + 15 of an accumulator to T: they are an a operand as they lie.
template <class T>
__device__ __forceinline__ void pack_columns(std::uint32_t (&weights)[4],
                                             const float (&values)[8][4], int k) {
  weights[0] = device::pack_pair<T>(values[2 * k][0], values[2 * k][1]);
  weights[1] = device::pack_pair<T>(values[2 * k][2], values[2 * k][3]);
  weights[2] = device::pack_pair<T>(values[2 * k + 1][0], values[2 * k + 1][1]);
  weights[3] = device::pack_pair<T>(values[2 * k + 1][2], values[2 * k + 1][3]);
}

template <class T>
__device__ __forceinline__ void pack_weights(std::uint32_t (&weights)[4][4],
                                             const float (&values)[8][4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k)
    pack_columns<T>(weights[k], values, k);
}

/// kept_elements() for 64 columns, all random blocks at a time. `rounds` are those of options.key,
/// in the kernel's arguments.
template <bool kKeyRows>
__device__ __forceinline__ std::uint32_t draw_kept(const AttentionOptions& options,
                                                   const PhiloxRounds& rounds, int head,
                                                   int first_row, int first_column) {
  const std::uint64_t offset = options.key.region().offset;
  return kept_elements<8, kKeyRows, 4>(
      options, head, first_row, first_column,
      [&](std::uint64_t block) { return rounds.words(offset, block); });
}

/// Pins all tiles of a sum.
template <int kTiles>
__device__ __forceinline__ void pin(float (&sum)[kTiles][1][8][4]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i)
    device::pin(sum[i][0]);
}

/// to = factor sum, or += that, for the own 16 rows of each warp, from `first` on. Rows go through
/// `block` in shared memory, which nobody else may be using, so that eight lanes write 128 bytes.
template <class T, int D>
__device__ __forceinline__ void store_block(HeadRows<T> to, const float (&sum)[D / 64][1][8][4],
                                            const float (&factor)[1][2], std::uint32_t block,
                                            int first, int time, bool accumulate) {
  const std::uint32_t thread = device::thread_again();
  const std::uint32_t lane = thread % 32;
#pragma unroll
  for (int i = 0; i < D / 64; ++i) {
    if (accumulate) {  // in f32: rounded once
      store_rows<T, 64>({to.data + i * 64, to.stride}, sum[i], factor, first, time, true, thread);
      continue;
    }
    const std::uint32_t tile = block + i * device::kTileBytes;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const auto pair = [&](int n, int half) {
        return device::pack_pair<T>(sum[i][0][n][2 * half] * factor[0][half],
                                    sum[i][0][n][2 * half + 1] * factor[0][half]);
      };
      device::store_matrices(own_unit(thread, tile, k), {pair(2 * k, 0), pair(2 * k, 1),
                                                         pair(2 * k + 1, 0), pair(2 * k + 1, 1)});
    }
    __syncwarp();
    T* target = to.data + i * 64 + lane % 8 * 8;
#pragma unroll
    for (int j = 0; j < 16; j += 4) {
      const int row = j + static_cast<int>(lane / 8);
      const std::uint32_t own_row = thread % device::kWarpgroup / 32 * 16 + row;
      const uint4 packed = device::load_shared_16(tile + own_row * 128 + (lane % 8 ^ row % 8) * 16);
      if (first + row < time) {
        *reinterpret_cast<uint4*>(target + static_cast<std::int64_t>(first + row) * to.stride) =
            packed;
      }
    }
  }
}

#endif

}  // namespace lamina::kernels
