// SPDX-License-Identifier: MIT
// One pass over keys and values: the sum of exponentials and the weighted values are kept relative
// to the largest score so far.
#include "core/kernels/cached_attention.h"

#include "cpu_kernels/parallel.h"
#include "cpu_kernels/sums.h"

#include <cmath>
#include <limits>

namespace lamina::kernels {

void run(const CachedAttention& args, CpuStream) {
  const std::int64_t size = args.head_size, width = args.heads * size;
  const std::int64_t position = *args.position.as<const std::int32_t>();
  dispatch_float(args.out.dtype, args.kName, [&]<class T>() {
    const T scale = static_cast<T>(args.scale);
    const std::int64_t work = (position + 1) * size;
    cpu::parallel_rows(args.qkv.rows * args.heads, work, [&](std::int64_t item) {
      const std::int64_t sequence = item / args.heads, at = item % args.heads * size;
      const T* const q = cpu::row_of<const T>(args.qkv, sequence) + at;
      T* const cache = cpu::row_of<T>(args.cache, sequence * args.capacity) + at;
      T* const out = cpu::row_of<T>(args.out, sequence) + at;
      T* const newest = cache + position * args.cache.stride;
      std::copy_n(q + width, size, newest);
      std::copy_n(q + 2 * width, size, newest + width);
      std::fill_n(out, size, T{0});
      T largest = -std::numeric_limits<T>::infinity(), sum{0};
      for (std::int64_t t = 0; t <= position; ++t) {
        const T* const key = cache + t * args.cache.stride;
        const T* const value = key + width;
        const T score =
            scale * cpu::lane_sum<T>(size, [&](std::int64_t i) { return q[i] * key[i]; });
        if (score > largest) {
          const T factor = std::exp(largest - score);
          for (std::int64_t i = 0; i < size; ++i)
            out[i] *= factor;
          sum *= factor;
          largest = score;
        }
        const T weight = std::exp(score - largest);
        for (std::int64_t i = 0; i < size; ++i)
          out[i] += weight * value[i];
        sum += weight;
      }
      for (std::int64_t i = 0; i < size; ++i)
        out[i] /= sum;
    });
  });
}

}  // namespace lamina::kernels
