// SPDX-License-Identifier: MIT
// What the fused attention kernels share: tiles of 2-byte elements in shared memory, the two kinds
// of matrix product of a warp, the dropout mask in the layout of an accumulator, and the choice of
// an instance by dtype, head size and dropout. A warp owns 16 kRowTiles rows of a tile of 4 warps.
// "Rows" are queries and "columns" keys in the forward pass and for dq, the reverse for dk and dv.
#pragma once

#include "core/cuda/check.h"
#include "core/kernels/attention.h"
#include "cuda_kernels/device/exp_sum.cuh"
#include "cuda_kernels/device/halves.cuh"
#include "cuda_kernels/device/mma.cuh"

#include <algorithm>
#include <cstdint>

namespace lamina::kernels {

inline constexpr int kAttentionThreads = 128;

/// The part of AttentionShape that kernels read, in the form in which they read it.
struct AttentionOptions {
  int time, heads;
  float scale, scale_log2;  // scale_log2 = scale log2(e), so that exp(scale s) = exp2(scale_log2 s)
  bool causal;
  PhiloxKey key;
  std::uint32_t threshold;  // drop_threshold()
  float keep_scale;
};

inline AttentionOptions attention_options(const AttentionShape& shape) {
  return {.time = static_cast<int>(shape.time),
          .heads = static_cast<int>(shape.heads),
          .scale = shape.scale,
          .scale_log2 = shape.scale * device::kLog2E,
          .causal = shape.causal,
          .key = shape.key,
          .threshold = drop_threshold(shape.drop_p),
          .keep_scale = static_cast<float>(keep_scale(shape.drop_p))};
}

/// One head of a packed matrix: row t is `data + t * stride`, D contiguous elements.
template <class T>
struct HeadRows {
  T* __restrict__ data;
  int stride;

  /// From the whole matrix to the head at `column` of batch element `batch`.
  __device__ HeadRows at(std::int64_t batch, int time, std::int64_t column) const {
    return {data + batch * time * stride + column, stride};
  }
};

/// Elements from one row of a tile to the next. The 16 bytes of padding make the pitch an odd
/// number of 16-byte units, so the eight rows of an ldmatrix touch each of the 32 banks once.
template <int D>
inline constexpr int kTilePitch = D + 8;

template <int D>
constexpr int tile_bytes(int rows) {
  return rows * kTilePitch<D> * 2;
}

/// Starts the copy of rows first ... first + kRows - 1 into a tile. Rows past `time` become zero.
template <class T, int D, int kRows>
__device__ inline void copy_tile(std::uint32_t to, HeadRows<const T> from, int first, int time) {
  constexpr int kLanes = D == 96 ? 4 : D / 8;  // per row
  constexpr int kStep = kAttentionThreads / kLanes;
  static_assert(kRows % kStep == 0);
  const int column = static_cast<int>(threadIdx.x) % kLanes * 8;
  const int row = static_cast<int>(threadIdx.x) / kLanes;
  to += (row * kTilePitch<D> + column) * 2;
#pragma unroll
  for (int i = 0; i < kRows; i += kStep) {
    const bool valid = first + row + i < time;
    const T* source = from.data + static_cast<std::int64_t>(first + row + i) * from.stride + column;
#pragma unroll
    for (int j = 0; j < D; j += kLanes * 8) {
      device::copy_async_16(to + (i * kTilePitch<D> + j) * 2, valid ? source + j : from.data,
                            valid);
    }
  }
}

/// Offset of the row that this lane addresses for an a operand, and for a transposed b operand:
/// matrices 0 and 1 are rows 0-7 and 8-15 of the first eight columns, 2 and 3 of the next eight.
template <int D>
__device__ inline std::uint32_t lane_offset_down() {
  const std::uint32_t lane = threadIdx.x % 32;
  return (lane % 16 * kTilePitch<D> + lane / 16 * 8) * 2;
}

/// The same for a b operand: matrices 0 and 1 are the two halves of 16 columns of rows 0-7.
template <int D>
__device__ inline std::uint32_t lane_offset_across() {
  const std::uint32_t lane = threadIdx.x % 32;
  return ((lane % 8 + lane / 16 * 8) * kTilePitch<D> + lane / 8 % 2 * 8) * 2;
}

/// The rows of a tile that a warp owns, as a operand: kept in registers, or read for each use.
template <int D, int kRowTiles, bool kKept>
class OwnRows {
 public:
  /// `address` is the first own row of the tile.
  __device__ explicit OwnRows(std::uint32_t address) : address_(address + lane_offset_down<D>()) {}

  /// Call once, when the tile has arrived.
  __device__ void fetch() {
    if constexpr (kKept) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int k = 0; k < D / 16; ++k)
          device::load_matrices(kept_[m][k], element(m, k));
      }
    }
  }

  __device__ void read(std::uint32_t (&a)[kRowTiles][4], int k) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      if constexpr (kKept) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          a[m][i] = kept_[m][k][i];
      } else {
        device::load_matrices(a[m], element(m, k));
      }
    }
  }

 private:
  __device__ std::uint32_t element(int m, int k) const {
    return address_ + (m * 16 * kTilePitch<D> + k * 16) * 2;
  }

  std::uint32_t address_;
  std::uint32_t kept_[kKept ? kRowTiles : 1][kKept ? D / 16 : 1][4];
};

/// scores = own rows times the transpose of a tile of 8 kColumnTiles rows at `tile`.
template <class T, int D, int kRowTiles, int kColumnTiles, bool kKept>
__device__ inline void multiply_rows(float (&scores)[kRowTiles][kColumnTiles][4],
                                     const OwnRows<D, kRowTiles, kKept>& rows, std::uint32_t tile) {
  tile += lane_offset_across<D>();
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        scores[m][n][i] = 0.0F;
    }
  }
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    std::uint32_t a[kRowTiles][4];
    rows.read(a, k);
#pragma unroll
    for (int n = 0; n < kColumnTiles; n += 2) {
      std::uint32_t b[4];
      device::load_matrices(b, tile + (n * 8 * kTilePitch<D> + k * 16) * 2);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        device::mma_m16n8k16<T>(scores[m][n], a[m], b[0], b[1]);
        device::mma_m16n8k16<T>(scores[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// sum += scores, rounded to T, times a tile of 8 kColumnTiles rows at `tile`. The accumulators of
/// two neighbouring column tiles are the a operand as they are.
template <class T, int D, int kRowTiles, int kColumnTiles>
__device__ inline void multiply_scores(float (&sum)[kRowTiles][D / 8][4],
                                       const float (&scores)[kRowTiles][kColumnTiles][4],
                                       std::uint32_t tile) {
  tile += lane_offset_down<D>();
#pragma unroll
  for (int k = 0; k < kColumnTiles; k += 2) {
    std::uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      a[m][0] = device::pack_pair<T>(scores[m][k][0], scores[m][k][1]);
      a[m][1] = device::pack_pair<T>(scores[m][k][2], scores[m][k][3]);
      a[m][2] = device::pack_pair<T>(scores[m][k + 1][0], scores[m][k + 1][1]);
      a[m][3] = device::pack_pair<T>(scores[m][k + 1][2], scores[m][k + 1][3]);
    }
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      std::uint32_t b[4];
      device::load_matrices_transposed(b, tile + (k * 8 * kTilePitch<D> + n * 8) * 2);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        device::mma_m16n8k16<T>(sum[m][n], a[m], b[0], b[1]);
        device::mma_m16n8k16<T>(sum[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// to = factor sum, or to += that, for the own rows from `first` on. Lanes exchange pairs with
/// their neighbour so that each writes 8 bytes and four lanes a whole 32-byte sector.
template <class T, int D, int kRowTiles>
__device__ inline void store_rows(HeadRows<T> to, const float (&sum)[kRowTiles][D / 8][4],
                                  const float (&factor)[kRowTiles][2], int first, int time,
                                  bool accumulate, std::uint32_t thread = threadIdx.x) {
  const int lane = static_cast<int>(thread) % 32;
  const bool odd = lane % 2 == 1;
  const int column = (odd ? 8 : 0) + lane % 4 / 2 * 4;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + m * 16 + half * 8 + lane / 4;
      T* target = to.data + static_cast<std::int64_t>(row) * to.stride + column;
#pragma unroll
      for (int n = 0; n < D / 8; n += 2) {
        const float* left = &sum[m][n][half * 2];
        const float* right = &sum[m][n + 1][half * 2];
        const float got0 = __shfl_xor_sync(0xffffffffU, odd ? left[0] : right[0], 1);
        const float got1 = __shfl_xor_sync(0xffffffffU, odd ? left[1] : right[1], 1);
        float4 value{odd ? got0 : left[0], odd ? got1 : left[1], odd ? right[0] : got0,
                     odd ? right[1] : got1};
        value = {value.x * factor[m][half], value.y * factor[m][half], value.z * factor[m][half],
                 value.w * factor[m][half]};
        if (row < time) {
          auto* packed = reinterpret_cast<uint2*>(target + n * 8);
          if (accumulate) {
            const uint2 old = *packed;
            const float2 low = device::unpack_pair<T>(old.x);
            const float2 high = device::unpack_pair<T>(old.y);
            value = {value.x + low.x, value.y + low.y, value.z + high.x, value.w + high.y};
          }
          *packed = {device::pack_pair<T>(value.x, value.y),
                     device::pack_pair<T>(value.z, value.w)};
        }
      }
    }
  }
}

/// Which elements of a row tile of scores dropout keeps: bit 8 i + n is element i of column tile n.
/// `head` counts over batch and heads. Rows are keys when `kKeyRows`, else queries; first_row and
/// first_column are multiples of 16. Each lane asks draw(number) for a random block for each 16
/// columns, kAtOnce at a time: that takes registers but hides the ten rounds.
template <int kColumnTiles, bool kKeyRows, int kAtOnce, class Draw>
__device__ inline std::uint32_t kept_elements(const AttentionOptions& options, std::uint64_t head,
                                              int first_row, int first_column, const Draw& draw) {
  static_assert(kColumnTiles <= 8 && kColumnTiles % 2 == 0);
  const device::HalvesTest keep(options.threshold);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto tiles = static_cast<std::uint64_t>((options.time + 15) / 16);
  const int query_tile = (kKeyRows ? first_column : first_row) / 16;
  const int key_tile = (kKeyRows ? first_row : first_column) / 16;
  // Where lanes have queries, the block of attention_mask_element() is all the lane's own. Where
  // they have keys, four queries of the lane and of the one 4 further, whose key is next to its
  // own, have two blocks: the even key's lane draws that of the even queries.
  const int own = kKeyRows ? lane % 4 * 8 + lane / 4 % 2 * 4 + lane / 8 : lane;
  std::uint64_t block = ((head * tiles + query_tile) * tiles + key_tile) * 32 + own;
  std::uint32_t bits = 0;
#pragma unroll kAtOnce
  for (int n = 0; n < kColumnTiles; n += 2, block += kKeyRows ? 32 * tiles : 32) {
    const PhiloxBlock words = draw(block);
    const std::uint32_t x = keep.signs(words.x), y = keep.signs(words.y), z = keep.signs(words.z),
                        w = keep.signs(words.w);
    bits |= device::half_signs(x, kKeyRows ? z : y) & 0x01010101U << n;
    bits |= device::half_signs(kKeyRows ? y : z, w) & 0x02020202U << n;
  }
  if constexpr (kKeyRows) {
    const std::uint32_t other = __shfl_xor_sync(0xffffffffU, bits, 4);
    bits = lane / 4 % 2 == 0 ? device::pick_bytes<0x6240>(bits, other)
                             : device::pick_bytes<0x3715>(bits, other);
  }
  return bits;
}

/// The same with the blocks of options.key, one at a time. The key is read for each, which saves
/// registers.
template <int kColumnTiles, bool kKeyRows>
__device__ inline std::uint32_t kept_elements(const AttentionOptions& options, std::uint64_t head,
                                              int first_row, int first_column) {
  return kept_elements<kColumnTiles, kKeyRows, 1>(
      options, head, first_row, first_column,
      [&](std::uint64_t block) { return philox_words(options.key.region(), block); });
}

/// Bit 8 i + n of kept_elements().
__device__ inline bool is_kept(std::uint32_t bits, int n, int i) {
  return (bits >> static_cast<unsigned>(8 * i + n) & 1U) != 0;
}

/// Calls f.template operator()<T, head size, has dropout>() for a supported shape.
template <class F>
void with_attention_instance(const AttentionShape& shape, DType dtype, const F& f) {
  const auto with_dropout = [&]<class T, int D>() {
    shape.drop_p > 0.0F ? f.template operator()<T, D, true>()
                        : f.template operator()<T, D, false>();
  };
  const auto with_size = [&]<class T>() {
    switch (shape.head_size) {
      case 32:
        return with_dropout.template operator()<T, 32>();
      case 64:
        return with_dropout.template operator()<T, 64>();
      case 96:
        return with_dropout.template operator()<T, 96>();
      default:
        return with_dropout.template operator()<T, 128>();
    }
  };
  dtype == DType::bf16 ? with_size.template operator()<__nv_bfloat16>()
                       : with_size.template operator()<__half>();
}

/// Lets `kernel` use `bytes` of dynamic shared memory (above 48 KiB is opt-in) and launches one
/// block per tile of each head. launch() checks for errors.
template <class... Parameters, class... Args>
void launch_attention(void (*kernel)(Parameters...), std::int64_t blocks, int bytes,
                      CudaStream stream, const Args&... args) {
  LAMINA_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  kernel<<<static_cast<unsigned>(blocks), kAttentionThreads, static_cast<std::size_t>(bytes),
           stream.handle>>>(args...);
}

}  // namespace lamina::kernels
