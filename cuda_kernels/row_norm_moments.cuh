// SPDX-License-Identifier: MIT
// The moments of a row in one pass, and what is done with them. They are sums of x - center and of
// its square, where center is near the mean; rows where it was not have a second pass.
#pragma once

#include "cuda_kernels/row_norm.cuh"

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace lamina::kernels::row_norm {

/// Scalars that all threads share, converted once on the host.
struct ForwardScalars {
  float inverse;  // 1 / cols
  float eps;
  int stages;           // of the ring
  unsigned rows_ahead;  // from a row to the one that is brought into the cache meanwhile; or 0
};

/// What is known of a row after a pass: sums of x - center and of its square.
struct Moments {
  float center = 0.0F;
  float offset = 0.0F;    // mean - center
  float variance = 0.0F;  // mean square for RMSNorm

  Moments() = default;

  /// `inverse` is 1 / cols.
  __device__ __forceinline__ Moments(float around, const float (&sums)[2], float inverse)
      : center(around),
        offset(sums[0] * inverse),
        variance((sums[1] - sums[0] * offset) * inverse) {
    if (variance < 0.0F) variance = 0.0F;  // constant rows; a NaN stays
  }

  __device__ __forceinline__ float mean() const { return center + offset; }

  /// True when the center was so far from the mean that the variance has lost digits: its rounding
  /// error is up to 1 + 3 offset^2 / variance times that of a sum around the mean. With the mean of
  /// eight normal elements as the center it is one row in 16,000, with four one in 214.
  __device__ __forceinline__ bool is_inexact() const { return offset * offset > 2.0F * variance; }

  __device__ __forceinline__ float rstd(float eps) const { return rsqrtf(variance + eps); }
};

/// The first kWidth elements of what is normalised from column `col` on; zeros unless is_there.
template <class T, class S, bool kResidual, int kWidth>
__device__ __forceinline__ Pack<S, kWidth> elements_at(const LayerNorm& args, const DropMask& mask,
                                                       std::int64_t row, int col, bool is_there) {
  using device::Keep;
  if constexpr (kResidual) {
    const auto x =
        device::load_pack_if<kWidth, Keep::streamed>(row_of<const T>(args.x, row) + col, is_there);
    const auto residual = device::load_pack_if<kWidth, Keep::streamed>(
        row_of<const S>(args.residual, row) + col, is_there);
    return add_residual(x, residual, mask, kept_elements<kWidth>(mask, row * args.x.cols + col));
  } else {
    return device::load_pack_if<kWidth, Keep::streamed>(row_of<const S>(args.x, row) + col,
                                                        is_there);
  }
}

/// A first guess at the mean of a row, in all its threads: the mean of its first pack, so that
/// neither a common offset nor a constant row costs digits. With a residual, where an element takes
/// more instructions, each lane reads one and they add up in the same order.
template <Norm kNorm, class T, class S, bool kResidual, int kWidth>
__device__ __forceinline__ float guess_mean(const LayerNorm& args, const DropMask& mask,
                                            std::int64_t row, bool is_there) {
  float sum = 0.0F;
  if constexpr (kNorm == Norm::layer) {
    if (kResidual && blockDim.x >= kWidth) {
      const int col = static_cast<int>(threadIdx.x % kWidth);
      sum = elements_at<T, S, kResidual, 1>(args, mask, row, col, is_there).at(0);
#pragma unroll
      for (unsigned offset = kWidth / 2; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(device::kFullWarp, sum, offset);
    } else {
      float values[kWidth];
      device::to_floats(elements_at<T, S, kResidual, kWidth>(args, mask, row, 0, is_there), values);
      sum = pairwise_sum(values);
    }
  }
  return sum * (1.0F / kWidth);
}

/// With packs of four and more than 16 elements a thread, which long rows of f32 have, a
/// multiprocessor has few rows at a time, and threads add up their first packs while the others are
/// on their way. So that none waits for another's guess, all read the first pack, before their own;
/// with a residual, which takes longer anyway, it is the guess too: the bits are alike.
template <int kWidth, int kPacks>
inline constexpr bool kGuessesFromFirstPack = kWidth == 4 && kPacks* kWidth > 16;

/// A guess at the mean of a row, in all its threads: the mean of up to 8 elements that its first
/// thread holds, with `pitch` columns between its packs; the row has `cols`.
template <int kWidth, int kPacks>
__device__ __forceinline__ float guess_mean(RowSum<RowReach::block>& row_sum,
                                            const float (&held)[kPacks][kWidth], int pitch,
                                            int cols) {
  constexpr int kUsed =
      kGuessesFromFirstPack<kWidth, kPacks> ? 1 : std::min(kPacks, std::max(1, 8 / kWidth));
  float sum = pairwise_sum(held[0]);
  int packs = 1;
#pragma unroll
  for (int p = 1; p < kUsed; ++p) {
    sum += pairwise_sum(held[p]);  // zeros beyond the row
    if (p * pitch < cols) ++packs;
  }
  return row_sum.first(__fdividef(sum, static_cast<float>(packs * kWidth)));
}

/// Adds a pack to the sums of x - center and of its square; `values` become x - center.
template <Norm kNorm, int kWidth>
__device__ __forceinline__ void add_moments(float (&values)[kWidth], float center,
                                            float (&sums)[2]) {
  float squares = 0.0F;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if constexpr (kNorm == Norm::layer) values[i] -= center;
    squares = fmaf(values[i], values[i], squares);
  }
  sums[1] += squares;
  if constexpr (kNorm == Norm::layer) sums[0] += pairwise_sum(values);
}

/// By the first thread of a row.
__device__ __forceinline__ void write_moments(const LayerNorm& args, std::int64_t row,
                                              const Moments& moments, float rstd) {
  if (args.mean.data != nullptr) {
    static_cast<float*>(args.mean.data)[row] = moments.mean();
  }
  if (args.rstd.data != nullptr) static_cast<float*>(args.rstd.data)[row] = rstd;
}

/// (x - center) * rstd + shift, scaled and shifted; shift is (center - mean) * rstd.
template <class Parameters, int kWidth>
__device__ __forceinline__ void normalise(float (&centred)[kWidth], float rstd, float shift,
                                          const Parameters& weights, const Parameters& biases) {
  float weight[kWidth];
  float bias[kWidth];
  weights.get(weight);
  biases.get(bias);
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    centred[i] = fmaf(fmaf(centred[i], rstd, shift), weight[i], bias[i]);
}

}  // namespace lamina::kernels::row_norm
