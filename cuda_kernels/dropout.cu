// SPDX-License-Identifier: MIT
// Dropout on CUDA: a body for row_loop that makes its random words again instead of storing a mask.
#include "core/kernels/dropout.h"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

namespace lamina::kernels {
namespace {

template <class T, int kWidth>
struct DropoutBody {
  const T* x;
  T* y;
  std::int64_t x_stride, y_stride;
  std::int64_t cols;  // of the view before it was flattened into one row: the same numbering
  PhiloxKey key;
  std::uint32_t threshold;
  float scale;
  bool accumulate;

  struct Row {
    const T* x;
    T* y;
    std::uint64_t first;  // number of the row's first element
    PhiloxRegion region;
  };

  __device__ Row row(std::int64_t row) const {
    return {x + row * x_stride, y + row * y_stride, static_cast<std::uint64_t>(row * cols),
            key.region()};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float values[kWidth];
    load_values(row.x + col, count, values);
    const std::uint64_t first = row.first + static_cast<std::uint64_t>(col);
    if constexpr (kWidth == 1) {
      const PhiloxBlock words = philox_words(row.region, first / 4);
      const std::uint32_t low = first % 2 == 0 ? words.x : words.y;
      const std::uint32_t high = first % 2 == 0 ? words.z : words.w;
      values[0] = keep(first % 4 < 2 ? low : high, values[0]);
    } else {  // first is a multiple of 4: see run()
#pragma unroll
      for (int i = 0; i < kWidth; i += 4) {
        const PhiloxBlock words =
            philox_words(row.region, first / 4 + static_cast<unsigned>(i) / 4);
        values[i] = keep(words.x, values[i]);
        values[i + 1] = keep(words.y, values[i + 1]);
        values[i + 2] = keep(words.z, values[i + 2]);
        values[i + 3] = keep(words.w, values[i + 3]);
      }
    }
    write_values(row.y + col, count, values, accumulate);
  }

 private:
  __device__ float keep(std::uint32_t word, float value) const {
    return word >= threshold ? value * scale : 0.0F;
  }
};

}  // namespace

void run(const Dropout& args, CudaStream stream) {
  if (args.write == GradWrite::skip) return;
  Rows x = args.x;
  Rows y = args.y;
  flatten({&x, &y});
  // A vector takes whole Philox blocks, so its first element must have a number divisible by 4.
  const bool aligned = are_vector_aligned({x, y}) && (x.rows <= 1 || x.cols % 4 == 0);
  dispatch_cuda_float(x.dtype, Dropout::kName, [&]<class T>() {
    dispatch_width<loop_width<T>()>(aligned, [&]<int kWidth>() {
      const DropoutBody<T, kWidth> body{.x = x.as<const T>(),
                                        .y = y.as<T>(),
                                        .x_stride = x.stride,
                                        .y_stride = y.stride,
                                        .cols = x.cols,
                                        .key = args.key,
                                        .threshold = drop_threshold(args.p),
                                        .scale = static_cast<float>(1.0 / (1.0 - double{args.p})),
                                        .accumulate = args.write == GradWrite::accumulate};
      launch_row_loop<kWidth>(x.rows, x.cols, body, stream);
    });
  });
}

}  // namespace lamina::kernels
