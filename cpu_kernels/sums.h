// SPDX-License-Identifier: MIT
// Sums in a fixed order. A row is summed in kLanes interleaved partial sums that are folded in
// halves: the compiler can keep them in vector registers, the error grows with n / kLanes, and the
// result depends neither on the instruction set's width nor on alignment.
#pragma once

#include "core/view.h"
#include "cpu_kernels/parallel.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace lamina::kernels::cpu {

inline constexpr int kLanes = 16;

/// Sum of term(i) over i in [0, n).
template <class T, class Term>
T lane_sum(std::int64_t n, const Term& term) {
  T lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] += term(i + lane);
  }
  for (int lane = 0; i < n; ++i, ++lane)
    lanes[lane] += term(i);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane)
      lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

/// Largest of x[0 ... n), n > 0. A NaN may be passed over: the sum that follows brings it back.
template <class T>
T lane_max(const T* x, std::int64_t n) {
  T lanes[kLanes];
  std::fill(lanes, lanes + kLanes, x[0]);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (int lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    }
  }
  for (int lane = 0; i < n; ++i, ++lane)
    lanes[lane] = x[i] > lanes[lane] ? x[i] : lanes[lane];
  T largest = lanes[0];
  for (const T lane : lanes)
    largest = lane > largest ? lane : largest;
  return largest;
}

/// out[c] (+)= sum over chunks, in order, of partials[chunk * pitch + c].
template <class T, class Out>
void write_partials(const T* partials, std::int64_t chunks, std::int64_t pitch, std::int64_t cols,
                    Out* out, GradWrite write) {
  constexpr std::int64_t kBlock = 64;  // columns at a time
  for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, cols - begin);
    T sums[kBlock] = {};
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      const T* const from = partials + chunk * pitch + begin;
#pragma omp simd
      for (std::int64_t c = 0; c < count; ++c)
        sums[c] += from[c];
    }
    for (std::int64_t c = 0; c < count; ++c) {
      out[begin + c] = written(write, out[begin + c], static_cast<Out>(sums[c]));
    }
  }
}

/// The same into a vector of either float dtype; nothing for an empty one or when skipped.
template <class T>
void write_partials(const T* partials, std::int64_t chunks, std::int64_t pitch, const Flat& out,
                    GradWrite write, std::string_view op) {
  if (!out || write == GradWrite::skip) return;
  dispatch_float(out.dtype, op, [&]<class Out>() {
    write_partials(partials, chunks, pitch, out.size, out.template as<Out>(), write);
  });
}

}  // namespace lamina::kernels::cpu
