// SPDX-License-Identifier: MIT
// What LayerNorm and RMSNorm share on CUDA: operands of a row in registers, dropout, and the
// forward kernel. RMSNorm is the LayerNorm contract without mean, bias and residual. The backward
// kernels are in row_norm_backward.cuh.
#pragma once

#include "core/check.h"
#include "core/kernels/layer_norm.h"
#include "cuda_kernels/device/block.cuh"
#include "cuda_kernels/device/vector.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/tuning/layer_norm.h"

#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace lamina::kernels::row_norm {

using device::Pack;

enum class Norm : std::uint8_t { layer, rms };

inline constexpr int kMaxThreads = 512;  // per block, of every variant

/// First element of row `row`.
template <class T>
__device__ __forceinline__ T* row_of(const Rows& view, std::int64_t row) {
  return static_cast<T*>(view.data) + row * view.stride;
}

/// kWidth elements of a weight or bias of dtype T or f32; `fallback` when there is none.
template <class T, int kWidth>
__device__ __forceinline__ void load_parameter(const Flat& parameter, int col, float fallback,
                                               float (&to)[kWidth]) {
  if (parameter.data == nullptr) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      to[i] = fallback;
  } else if (sizeof(T) == sizeof(float) || parameter.dtype == DType::f32) {
    constexpr int kPiece = kWidth % 4 == 0 ? 4 : 1;
    const float* from = static_cast<const float*>(parameter.data) + col;
#pragma unroll
    for (int i = 0; i < kWidth; i += kPiece) {
      const auto piece = device::load_constant_pack<kPiece>(from + i);
#pragma unroll
      for (int j = 0; j < kPiece; ++j)
        to[i + j] = piece[j];
    }
  } else {
    const T* from = static_cast<const T*>(parameter.data) + col;
    const auto pack = device::load_constant_pack<kWidth>(from);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      to[i] = pack.at(i);
  }
}

/// Dropout with the mask recomputed from Philox: element i takes word i % 4 of block i / 4.
struct DropMask {
  PhiloxKey key;
  std::uint32_t threshold;
  float scale;

  DropMask(float p, PhiloxKey region)
      : key(region),
        threshold(drop_threshold(p)),
        scale(static_cast<float>(1.0 / (1.0 - static_cast<double>(p)))) {}

  __device__ __forceinline__ float factor(std::uint32_t word) const {
    return word >= threshold ? scale : 0.0F;
  }

  /// What elements first ... first + kWidth - 1 are multiplied by; first is a multiple of kWidth
  /// when that is 4 or more.
  template <int kWidth>
  __device__ __forceinline__ void factors(std::int64_t first, float (&to)[kWidth]) const {
    const auto element = static_cast<std::uint64_t>(first);
    if constexpr (kWidth % 4 == 0) {
#pragma unroll
      for (int i = 0; i < kWidth; i += 4) {
        const PhiloxBlock words = philox_words(key, element / 4 + i / 4);
        to[i] = factor(words.x);
        to[i + 1] = factor(words.y);
        to[i + 2] = factor(words.z);
        to[i + 3] = factor(words.w);
      }
    } else {
      const PhiloxBlock words = philox_words(key, element / 4);
      const unsigned word = element % 4;
      to[0] = factor(word == 0 ? words.x : word == 1 ? words.y : word == 2 ? words.z : words.w);
    }
  }
};

/// Column of the first element of a thread's pack number `pack`.
template <int kWidth>
__device__ __forceinline__ int column_of(int pack) {
  return (pack * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kWidth;
}

/// residual + dropout(x), rounded to T.
template <class T, int kWidth>
__device__ __forceinline__ Pack<T, kWidth> add_residual(const Pack<T, kWidth>& x,
                                                        const Pack<T, kWidth>& residual,
                                                        const DropMask& mask,
                                                        std::int64_t element) {
  Pack<T, kWidth> sum;
  if (mask.threshold == 0) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      sum.set(i, residual.at(i) + x.at(i));
  } else {
    float factors[kWidth];
    mask.factors(element, factors);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      // A dropped element is not multiplied: 0 * inf would be NaN.
      const float kept = factors[i] == 0.0F ? 0.0F : x.at(i) * factors[i];
      sum.set(i, residual.at(i) + kept);
    }
  }
  return sum;
}

/// One group of blockDim.x threads per row, blockDim.y rows per block. With kElements > 0 each
/// thread keeps that many elements of the row, packed, in registers and x is read once; with 0 the
/// row (after the first pass: the sum) is read again in every pass. The moments are a corrected
/// two-pass: the mean of x - mean, which rounding keeps from being 0, corrects both mean and
/// variance.
template <class T, Norm kNorm, bool kResidual, int kWidth, int kElements>
__global__ void __launch_bounds__(kMaxThreads, 1)
    forward(const LayerNorm args, const DropMask mask) {
  constexpr int kPacks = kElements / kWidth;
  using Held = Pack<T, kWidth>;
  __shared__ device::GroupScratch<1> scratch_one;
  __shared__ device::GroupScratch<2> scratch_two;
  int slot_one = 0;
  int slot_two = 0;

  const std::int64_t row = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const int cols =
      row < args.x.rows ? static_cast<int>(args.x.cols) : 0;  // no early exit: barriers
  const T* const x = row_of<const T>(args.x, row);
  const T* source = x;
  Held held[kPacks > 0 ? kPacks : 1];

  if constexpr (kPacks > 0) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int col = column_of<kWidth>(p);
      if (col < cols) held[p] = device::load_pack<kWidth>(x + col);
    }
  }
  if constexpr (kResidual) {
    const T* const residual = row_of<const T>(args.residual, row);
    T* const sum = row_of<T>(args.sum, row);
    const std::int64_t element = row * args.x.cols;
    source = sum;
    if constexpr (kPacks > 0) {
      constexpr int kChunk =
          kElements > 32 ? 32 / kWidth : kPacks;  // loads in flight; more would spill
#pragma unroll
      for (int first = 0; first < kPacks; first += kChunk) {
        Held added[kChunk];
#pragma unroll
        for (int p = 0; p < kChunk; ++p) {
          const int col = column_of<kWidth>(first + p);
          if (col < cols) added[p] = device::load_pack<kWidth>(residual + col);
        }
#pragma unroll
        for (int p = 0; p < kChunk; ++p) {
          const int col = column_of<kWidth>(first + p);
          if (col >= cols) continue;
          held[first + p] = add_residual(held[first + p], added[p], mask, element + col);
          device::store_pack(sum + col, held[first + p]);
        }
      }
    } else {
      const int step = static_cast<int>(blockDim.x) * kWidth;
      for (int col = column_of<kWidth>(0); col < cols; col += step) {
        const Held added = device::load_pack<kWidth>(residual + col);
        const Held value = device::load_pack<kWidth>(x + col);
        device::store_pack(sum + col, add_residual(value, added, mask, element + col));
      }
    }
  }

  // Calls visit(column, pack) for each pack of this thread.
  const auto for_each_pack = [&](auto&& visit) {
    if constexpr (kPacks > 0) {
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        const int col = column_of<kWidth>(p);
        device::keep_packed(held[p]);
        if (col < cols) visit(col, held[p]);
      }
    } else {
      const int step = static_cast<int>(blockDim.x) * kWidth;
      for (int col = column_of<kWidth>(0); col < cols; col += step) {
        visit(col, device::load_pack<kWidth>(source + col));
      }
    }
  };

  const float count = static_cast<float>(args.x.cols);
  float mean = 0.0F;
  float correction = 0.0F;  // mean of x - mean
  float variance = 0.0F;    // mean square for RMSNorm
  if constexpr (kNorm == Norm::layer) {
    float sums[1] = {};
    for_each_pack([&](int, const Held& pack) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        sums[0] += pack.at(i);
    });
    device::group_sum(sums, scratch_one, slot_one);
    mean = sums[0] / count;
    float moments[2] = {};  // of x - mean: sum, sum of squares
    for_each_pack([&](int, const Held& pack) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const float centred = pack.at(i) - mean;
        moments[0] += centred;
        moments[1] = fmaf(centred, centred, moments[1]);
      }
    });
    device::group_sum(moments, scratch_two, slot_two);
    correction = moments[0] / count;
    variance = (moments[1] - moments[0] * correction) / count;
    if (variance < 0.0F) variance = 0.0F;  // rounding on a constant row; a NaN stays
  } else {
    float squares[1] = {};
    for_each_pack([&](int, const Held& pack) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        squares[0] = fmaf(pack.at(i), pack.at(i), squares[0]);
    });
    device::group_sum(squares, scratch_one, slot_one);
    variance = squares[0] / count;
  }
  const float rstd = __frsqrt_rn(variance + static_cast<float>(args.eps));
  const float shift = -correction * rstd;

  if (row >= args.x.rows) return;
  if (threadIdx.x == 0) {
    if (args.mean.data != nullptr) static_cast<float*>(args.mean.data)[row] = mean + correction;
    if (args.rstd.data != nullptr) static_cast<float*>(args.rstd.data)[row] = rstd;
  }
  T* const y = row_of<T>(args.y, row);
  for_each_pack([&](int col, const Held& pack) {
    float weight[kWidth];
    float bias[kWidth];
    load_parameter<T>(args.weight, col, 1.0F, weight);
    load_parameter<T>(args.bias, col, 0.0F, bias);
    Held out;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float normal = fmaf(pack.at(i) - mean, rstd, shift);
      out.set(i, fmaf(normal, weight[i], bias[i]));
    }
    device::store_pack(y + col, out);
  });
}

/// True when all operands of a row kernel allow 16-byte accesses.
inline bool allows_vectors(std::initializer_list<Rows> matrices,
                           std::initializer_list<Flat> vectors) {
  bool allowed = true;
  for (const Rows& view : matrices) {
    const auto bytes = static_cast<std::int64_t>(size_of(view.dtype));
    allowed = allowed && view.cols * bytes % 16 == 0 &&
              device::is_vector_aligned(view.data, view.stride, bytes);
  }
  for (const Flat& view : vectors)
    allowed = allowed && device::is_vector_aligned(view.data);
  return allowed;
}

/// Columns and row numbers fit what the kernels count with.
inline void check_extents(std::string_view op, const Rows& x) {
  LAMINA_CHECK(x.cols < (std::int64_t{1} << 30) && x.rows < (std::int64_t{1} << 31), op, ": x has ",
               x.rows, " rows of ", x.cols, ", expected below 2^31 of below 2^30");
}

template <class T, Norm kNorm, bool kResidual>
void launch_forward(const LayerNorm& args, CudaStream stream) {
  const bool has_vectors =
      allows_vectors({args.x, args.residual, args.sum, args.y}, {args.weight, args.bias});
  constexpr int kVector = device::kVectorWidth<T>;
  const tuning::RowPolicy policy =
      tuning::layer_norm_forward(args.x.cols, has_vectors ? kVector : 1, sizeof(T));
  const dim3 block(static_cast<unsigned>(policy.threads_per_row),
                   static_cast<unsigned>(policy.rows_per_block));
  const auto grid =
      static_cast<unsigned>((args.x.rows + policy.rows_per_block - 1) / policy.rows_per_block);
  const DropMask mask(args.drop_p, args.key);
  const auto start = [&]<int kWidth, int kElements>() {
    forward<T, kNorm, kResidual, kWidth, kElements><<<grid, block, 0, stream.handle>>>(args, mask);
  };
  if (!has_vectors) {
    return policy.elements == 8 ? start.template operator()<1, 8>()
                                : start.template operator()<1, 0>();
  }
  switch (policy.elements) {
    case 8:
      return start.template operator()<kVector, 8>();
    case 16:
      return start.template operator()<kVector, 16>();
    case 32:
      return start.template operator()<kVector, 32>();
    case 64:
      if constexpr (sizeof(T) == 2) return start.template operator()<kVector, 64>();
      [[fallthrough]];
    default:
      return start.template operator()<kVector, 0>();
  }
}

}  // namespace lamina::kernels::row_norm
