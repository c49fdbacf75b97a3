// SPDX-License-Identifier: MIT
// Embedding on CUDA. Forward: a gather of rows. Backward, deterministic: the positions are sorted
// by token (stable, so equal tokens keep their order), cut into tiles of equally many rows, and
// summed per tile; tokens that lie within a tile are written at once, the sums of tokens that cross
// a tile boundary go to the workspace and are added in a second pass, which also clears absent
// rows. The work per tile does not depend on how often a token occurs.
#include "core/cuda/check.h"
#include "core/kernels/embedding.h"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

#include <cub/device/device_radix_sort.cuh>

#include <algorithm>
#include <bit>

namespace lamina::kernels {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMinTile = 32;     // rows summed by one thread
constexpr std::int64_t kMaxTiles = 2048;  // bounds the second pass over one token

template <class T, int kWidth>
struct EmbeddingBody {
  const std::int32_t* tokens;
  const T* table;
  T* y;
  std::int64_t vocabulary, table_stride, y_stride;

  struct Row {
    const T* from;  // null for a token outside the table
    T* to;
  };

  __device__ Row row(std::int64_t row) const {
    const std::int32_t token = tokens[row];
    const bool is_known = token >= 0 && token < vocabulary;
    return {is_known ? table + token * table_stride : nullptr, y + row * y_stride};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float values[kWidth];
    if (row.from != nullptr) {
      load_values(row.from + col, count, values);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        values[i] = __int_as_float(0x7fffffff);
    }
    store_values(row.to + col, count, values);
  }
};

/// Where the parts of the workspace lie: 256-byte aligned, in bytes from its start.
struct Plan {
  std::int64_t tile;  // rows per tile
  std::int64_t tiles;
  std::int64_t pitch;      // floats per row of partial sums, a multiple of 4
  int end_bit;             // bits of the largest key, which is `vocabulary` (for bad tokens)
  std::size_t sort_bytes;  // for CUB, at offset 0
  std::int64_t keys, sorted_keys;            // [n], u32
  std::int64_t positions, sorted_positions;  // [n], i32
  std::int64_t starts;                       // [vocabulary + 1], i32
  std::int64_t partials;                     // [tiles, 2, pitch], f32
  std::int64_t bytes;
};

Plan plan_of(const EmbeddingBackward& args) {
  const std::int64_t n = args.tokens.size;
  Plan plan{};
  plan.tile = std::max(kMinTile, (n + kMaxTiles - 1) / kMaxTiles);
  plan.tiles = (n + plan.tile - 1) / plan.tile;
  plan.pitch = (args.dy.cols + 3) / 4 * 4;
  plan.end_bit = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(args.dtable.rows)));
  std::uint32_t* const keys = nullptr;
  std::int32_t* const positions = nullptr;
  LAMINA_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(nullptr, plan.sort_bytes, keys, keys, positions,
                                                    positions, n, 0, plan.end_bit));
  std::int64_t end = 0;
  const auto take = [&end](std::int64_t bytes) {
    const std::int64_t start = end;
    end += (bytes + 255) / 256 * 256;
    return start;
  };
  take(static_cast<std::int64_t>(plan.sort_bytes));
  plan.keys = take(4 * n);
  plan.sorted_keys = take(4 * n);
  plan.positions = take(4 * n);
  plan.sorted_positions = take(4 * n);
  plan.starts = take(4 * (args.dtable.rows + 1));
  plan.partials = take(4 * plan.tiles * 2 * plan.pitch);
  plan.bytes = end;
  return plan;
}

/// The part of the workspace that begins `offset` bytes after its start.
template <class P>
P* part(const EmbeddingBackward& args, std::int64_t offset) {
  return reinterpret_cast<P*>(args.workspace.as<std::byte>() + offset);
}

__global__ void __launch_bounds__(kThreads)
    make_keys(const std::int32_t* __restrict__ tokens, std::uint32_t* __restrict__ keys,
              std::int32_t* __restrict__ positions, std::int64_t n, std::int64_t vocabulary) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step) {
    const std::int32_t token = tokens[i];
    const bool is_known = token >= 0 && token < vocabulary;
    keys[i] = static_cast<std::uint32_t>(is_known ? token : vocabulary);
    positions[i] = static_cast<std::int32_t>(i);
  }
}

/// starts[v] = number of keys below v, for v <= vocabulary.
__global__ void __launch_bounds__(kThreads)
    find_starts(const std::uint32_t* __restrict__ keys, std::int32_t* __restrict__ starts,
                std::int64_t n, std::int64_t vocabulary) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t v = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; v <= vocabulary;
       v += step) {
    std::int64_t low = 0;
    std::int64_t high = n;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (keys[middle] < v) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    starts[v] = static_cast<std::int32_t>(low);
  }
}

/// First pass, a row of the loop per tile. Of each tile, slot 0 of the partial sums is for a token
/// that began in an earlier tile, slot 1 for one that begins here and goes on in the next tile.
template <class T, class Out, int kWidth>
struct TileBody {
  const std::uint32_t* keys;
  const std::int32_t* positions;
  const T* dy;
  Out* dtable;
  float* partials;
  std::int64_t n, vocabulary, tile, pitch, dy_stride, dtable_stride;
  bool accumulate;

  struct Row {
    std::int64_t begin, end;
    float* partials;
    bool continues_left, continues_right;
  };

  __device__ Row row(std::int64_t index) const {
    const std::int64_t begin = index * tile;
    const std::int64_t end = min(begin + tile, n);
    return {begin, end, partials + index * 2 * pitch, begin > 0 && keys[begin - 1] == keys[begin],
            end < n && keys[end] == keys[end - 1]};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    constexpr int kAhead = 4;  // loads in flight
    float sum[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      sum[i] = 0.0F;
    std::uint32_t key = keys[row.begin];
    bool is_first = true;
    for (std::int64_t begin = row.begin; begin < row.end; begin += kAhead) {
      float values[kAhead][kWidth];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (begin + k < row.end)
          load_values(dy + positions[begin + k] * dy_stride + col, count, values[k]);
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (begin + k < row.end) {
          const std::uint32_t next = keys[begin + k];
          if (next != key) {
            flush(row, key, is_first && row.continues_left, false, col, count, sum);
            is_first = false;
            key = next;
#pragma unroll
            for (int i = 0; i < kWidth; ++i)
              sum[i] = 0.0F;
          }
#pragma unroll
          for (int i = 0; i < kWidth; ++i)
            sum[i] += values[k][i];
        }
      }
    }
    flush(row, key, is_first && row.continues_left, row.continues_right, col, count, sum);
  }

 private:
  __device__ __forceinline__ void flush(const Row& row, std::uint32_t key, bool continues_left,
                                        bool continues_right, std::int64_t col, int count,
                                        float (&sum)[kWidth]) const {
    if (continues_left || continues_right) {
      store_values(row.partials + (continues_left ? 0 : pitch) + col, count, sum);
    } else if (key < vocabulary) {
      write_values(dtable + key * dtable_stride + col, count, sum, accumulate);
    }
  }
};

/// Second pass, a row of the loop per token.
template <class Out, int kWidth>
struct TokenBody {
  const std::int32_t* starts;
  const float* partials;
  Out* dtable;
  std::int64_t tile, pitch, dtable_stride;
  bool accumulate;

  struct Row {
    std::int64_t first_tile, last_tile;  // of the token; equal when the first pass wrote it
    Out* to;
    bool is_absent;
  };

  __device__ Row row(std::int64_t token) const {
    // 32-bit: a division per row and thread. There are fewer than 2^31 positions.
    const std::int32_t start = starts[token];
    const std::int32_t end = starts[token + 1];
    const auto size = static_cast<std::int32_t>(tile);
    return {start / size, (end - 1) / size, dtable + token * dtable_stride, start == end};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float sum[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      sum[i] = 0.0F;
    if (row.is_absent) {
      if (!accumulate) store_values(row.to + col, count, sum);
      return;
    }
    if (row.first_tile == row.last_tile) return;
    load_values(partials + (row.first_tile * 2 + 1) * pitch + col, count, sum);
#pragma unroll 4
    for (std::int64_t index = row.first_tile + 1; index <= row.last_tile; ++index) {
      float part[kWidth];
      load_values(partials + index * 2 * pitch + col, count, part);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        sum[i] += part[i];
    }
    write_values(row.to + col, count, sum, accumulate);
  }
};

unsigned blocks_for(std::int64_t threads) {
  return static_cast<unsigned>(
      std::clamp<std::int64_t>((threads + kThreads - 1) / kThreads, 1, 8192));
}

template <class T, class Out>
void sum_by_token(const EmbeddingBackward& args, const Plan& plan, CudaStream stream) {
  const Rows& dtable = args.dtable;
  const bool accumulate = args.write == GradWrite::accumulate;
  const bool aligned = are_vector_aligned({args.dy, dtable});
  dispatch_width<loop_width<T, Out>()>(aligned, [&]<int kWidth>() {
    const TileBody<T, Out, kWidth> tiles{
        .keys = part<std::uint32_t>(args, plan.sorted_keys),
        .positions = part<std::int32_t>(args, plan.sorted_positions),
        .dy = args.dy.as<const T>(),
        .dtable = dtable.as<Out>(),
        .partials = part<float>(args, plan.partials),
        .n = args.tokens.size,
        .vocabulary = dtable.rows,
        .tile = plan.tile,
        .pitch = plan.pitch,
        .dy_stride = args.dy.stride,
        .dtable_stride = dtable.stride,
        .accumulate = accumulate};
    launch_row_loop<kWidth>(plan.tiles, dtable.cols, tiles, stream);
    const TokenBody<Out, kWidth> tokens{.starts = part<std::int32_t>(args, plan.starts),
                                        .partials = part<float>(args, plan.partials),
                                        .dtable = dtable.as<Out>(),
                                        .tile = plan.tile,
                                        .pitch = plan.pitch,
                                        .dtable_stride = dtable.stride,
                                        .accumulate = accumulate};
    launch_row_loop<kWidth>(dtable.rows, dtable.cols, tokens, stream);
  });
}

}  // namespace

void run(const Embedding& args, CudaStream stream) {
  const Rows& table = args.table;
  const Rows& y = args.y;
  dispatch_cuda_float(table.dtype, Embedding::kName, [&]<class T>() {
    dispatch_width<loop_width<T>()>(are_vector_aligned({table, y}), [&]<int kWidth>() {
      const EmbeddingBody<T, kWidth> body{args.tokens.as<const std::int32_t>(),
                                          table.as<const T>(),
                                          y.as<T>(),
                                          table.rows,
                                          table.stride,
                                          y.stride};
      launch_row_loop<kWidth>(y.rows, y.cols, body, stream);
    });
  });
}

std::int64_t workspace_bytes(const EmbeddingBackward& args, CudaStream) {
  return plan_of(args).bytes;
}

void run(const EmbeddingBackward& args, CudaStream stream) {
  if (args.write == GradWrite::skip || args.dtable.elements() == 0) return;
  const std::int64_t n = args.tokens.size;
  const std::int64_t vocabulary = args.dtable.rows;
  Plan plan = plan_of(args);
  auto* const keys = part<std::uint32_t>(args, plan.keys);
  auto* const sorted_keys = part<std::uint32_t>(args, plan.sorted_keys);
  auto* const positions = part<std::int32_t>(args, plan.positions);
  auto* const sorted_positions = part<std::int32_t>(args, plan.sorted_positions);
  auto* const starts = part<std::int32_t>(args, plan.starts);
  if (n > 0) {
    make_keys<<<blocks_for(n), kThreads, 0, stream.handle>>>(args.tokens.as<const std::int32_t>(),
                                                             keys, positions, n, vocabulary);
    LAMINA_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(args.workspace.data, plan.sort_bytes, keys,
                                                      sorted_keys, positions, sorted_positions, n,
                                                      0, plan.end_bit, stream.handle));
  }
  find_starts<<<blocks_for(vocabulary + 1), kThreads, 0, stream.handle>>>(sorted_keys, starts, n,
                                                                          vocabulary);
  dispatch_cuda_float(args.dy.dtype, EmbeddingBackward::kName, [&]<class T>() {
    if (args.dtable.dtype == args.dy.dtype) {
      sum_by_token<T, T>(args, plan, stream);
    } else {
      sum_by_token<T, float>(args, plan, stream);
    }
  });
}

}  // namespace lamina::kernels
