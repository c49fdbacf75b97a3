// SPDX-License-Identifier: MIT
// row_loop: one kernel shape for everything that works element by element on row-strided views. A
// body says what happens to kWidth neighbouring elements of one row; threads are laid over columns
// first and rows second, so no index is ever divided; the helpers that load and write serve other
// kernels, too.
//   struct Body {
//     __device__ auto row(std::int64_t row) const;  // what all elements of a row share
//     __device__ void apply(const auto& row, std::int64_t col, int count) const;  // <= kWidth
//   };
#pragma once

#include "core/stream.h"
#include "core/view.h"
#include "cuda_kernels/device/vector.cuh"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <initializer_list>

namespace lamina::kernels {

inline constexpr int kRowLoopThreads = 256;

/// Elements that a thread handles at once when a body touches both X and Y: 16 bytes of the
/// narrower.
template <class X, class Y = X>
constexpr int loop_width() {
  return 16 / static_cast<int>(sizeof(X) < sizeof(Y) ? sizeof(X) : sizeof(Y));
}

/// Calls f.operator()<kWidth>() when the operands are aligned for vectors, else <1>().
template <int kWidth, class F>
void dispatch_width(bool aligned, F&& f) {
  if (aligned) {
    f.template operator()<kWidth>();
  } else {
    f.template operator()<1>();
  }
}

/// Reads `count` elements as floats, in pieces of 16 bytes if there are kWidth; the rest is
/// `padding`.
template <int kWidth, class T>
__device__ __forceinline__ void load_values(const T* from, int count, float (&to)[kWidth],
                                            float padding = 0.0F) {
  if (kWidth == 1 || count == kWidth) {
    constexpr int kPiece = std::min(kWidth, device::kVectorWidth<T>);
#pragma unroll
    for (int i = 0; i < kWidth; i += kPiece) {
      const device::Pack<T, kPiece> piece = device::load_pack<kPiece>(from + i);
#pragma unroll
      for (int j = 0; j < kPiece; ++j)
        to[i + j] = piece.at(j);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      to[i] = i < count ? device::to_float(from[i]) : padding;
  }
}

/// Rounds `count` floats to T and writes them, in pieces of 16 bytes if there are kWidth.
template <int kWidth, class T>
__device__ __forceinline__ void store_values(T* to, int count, const float (&from)[kWidth]) {
  if (kWidth == 1 || count == kWidth) {
    constexpr int kPiece = std::min(kWidth, device::kVectorWidth<T>);
#pragma unroll
    for (int i = 0; i < kWidth; i += kPiece) {
      device::Pack<T, kPiece> piece;
#pragma unroll
      for (int j = 0; j < kPiece; ++j)
        piece.set(j, from[i + j]);
      device::store_pack(to + i, piece);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if (i < count) to[i] = device::from_float<T>(from[i]);
    }
  }
}

/// The same, or adds them to what is there with one rounding.
template <int kWidth, class T>
__device__ __forceinline__ void write_values(T* to, int count, float (&values)[kWidth],
                                             bool accumulate) {
  if (accumulate) {
    float previous[kWidth];
    load_values(to, count, previous);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      values[i] += previous[i];
  }
  store_values(to, count, values);
}

template <int kWidth, class Body>
__global__ void __launch_bounds__(kRowLoopThreads, 2)
    row_loop(std::int64_t rows, std::int64_t cols, Body body) {
  const std::int64_t row_step = std::int64_t{gridDim.y} * blockDim.y;
  const std::int64_t col_step = std::int64_t{gridDim.x} * blockDim.x * kWidth;
  const std::int64_t first_col = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kWidth;
  for (std::int64_t row = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < rows;
       row += row_step) {
    const auto current = body.row(row);
    for (std::int64_t col = first_col; col < cols; col += col_step) {
      const std::int64_t left = cols - col;
      body.apply(current, col, left < kWidth ? static_cast<int>(left) : kWidth);
    }
  }
}

/// Queues row_loop over [rows, cols]. Blocks are shaped to the columns: short rows share a block.
template <int kWidth, class Body>
void launch_row_loop(std::int64_t rows, std::int64_t cols, const Body& body, CudaStream stream) {
  if (rows <= 0 || cols <= 0) return;
  constexpr std::int64_t kMaxBlocks = 16384;  // 2^22 threads; more elements are looped over
  const std::int64_t packs = (cols + kWidth - 1) / kWidth;
  const auto threads_x = static_cast<unsigned>(
      std::bit_ceil(static_cast<std::uint64_t>(std::min<std::int64_t>(packs, kRowLoopThreads))));
  const unsigned threads_y = kRowLoopThreads / threads_x;
  const std::int64_t blocks_y = std::min((rows + threads_y - 1) / threads_y, kMaxBlocks);
  const std::int64_t blocks_x =
      std::clamp<std::int64_t>(kMaxBlocks / blocks_y, 1, (packs + threads_x - 1) / threads_x);
  const dim3 grid(static_cast<unsigned>(blocks_x), static_cast<unsigned>(blocks_y));
  row_loop<kWidth><<<grid, dim3(threads_x, threads_y), 0, stream.handle>>>(rows, cols, body);
}

/// True when the rows follow each other without a gap.
inline bool is_dense(const Rows& view) {
  return view.rows <= 1 || view.stride == view.cols;
}

/// Makes one long row of each view when all are dense; they have the same shape.
inline void flatten(std::initializer_list<Rows*> views) {
  if (!std::all_of(views.begin(), views.end(), [](const Rows* view) { return is_dense(*view); })) {
    return;
  }
  for (Rows* view : views)
    *view = {view->data, 1, view->elements(), view->elements(), view->dtype};
}

/// True when every row of every view starts on a 16-byte boundary.
inline bool are_vector_aligned(std::initializer_list<Rows> views) {
  return std::all_of(views.begin(), views.end(), [](const Rows& view) {
    return device::is_vector_aligned(view.data, view.rows > 1 ? view.stride : 0,
                                     static_cast<std::int64_t>(size_of(view.dtype)));
  });
}

}  // namespace lamina::kernels
