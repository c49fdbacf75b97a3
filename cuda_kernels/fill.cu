// SPDX-License-Identifier: MIT
// Fill and FillFromScalar on CUDA.
#include "core/kernels/fill.h"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/row_loop.cuh"

#include <bit>

namespace lamina::kernels {
namespace {

/// Elements are handled as unsigned words: a fill copies a bit pattern.
template <class Word, int kWidth>
struct FillBody {
  Word* y;
  std::int64_t stride;
  Word pattern;

  __device__ Word* row(std::int64_t row) const { return y + row * stride; }

  __device__ void apply(Word* row, std::int64_t col, int count) const {
    if (count == kWidth) {
      device::Pack<Word, kWidth> pack;
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        pack[i] = pattern;
      device::store_pack(row + col, pack);
    } else {
      for (int i = 0; i < count; ++i)
        row[col + i] = pattern;
    }
  }
};

template <class Word>
void fill_words(const Rows& view, Word pattern, CudaStream stream) {
  Rows y = view;
  flatten({&y});
  dispatch_width<loop_width<Word>()>(are_vector_aligned({y}), [&]<int kWidth>() {
    const FillBody<Word, kWidth> body{y.as<Word>(), y.stride, pattern};
    launch_row_loop<kWidth>(y.rows, y.cols, body, stream);
  });
}

__device__ inline float load_scalar(const void* scalar, DType dtype) {
  switch (dtype) {
    case DType::f16:
      return __half2float(*static_cast<const __half*>(scalar));
    case DType::bf16:
      return __bfloat162float(*static_cast<const __nv_bfloat16*>(scalar));
    default:
      return *static_cast<const float*>(scalar);
  }
}

template <class T, int kWidth>
struct FillFromScalarBody {
  const void* scalar;
  DType scalar_dtype;
  T* y;
  std::int64_t stride;
  float factor;
  bool accumulate;

  struct Row {
    T* y;
    float value;
  };

  __device__ Row row(std::int64_t row) const {
    return {y + row * stride, factor * load_scalar(scalar, scalar_dtype)};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    float values[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      values[i] = row.value;
    write_values(row.y + col, count, values, accumulate);
  }
};

}  // namespace

void run(const Fill& args, CudaStream stream) {
  const double value = args.value;
  switch (args.y.dtype) {
    case DType::f32:
      return fill_words(args.y, std::bit_cast<std::uint32_t>(static_cast<float>(value)), stream);
    case DType::f16:
      return fill_words(args.y, Half(static_cast<float>(value)).bits, stream);
    case DType::bf16:
      return fill_words(args.y, BFloat16(static_cast<float>(value)).bits, stream);
    case DType::f64:
      return fill_words(args.y, std::bit_cast<std::uint64_t>(value), stream);
    case DType::i32:
      return fill_words(args.y, static_cast<std::uint32_t>(static_cast<std::int32_t>(value)),
                        stream);
    case DType::i64:
      return fill_words(args.y, static_cast<std::uint64_t>(static_cast<std::int64_t>(value)),
                        stream);
    case DType::u8:
      return fill_words(args.y, static_cast<std::uint8_t>(value), stream);
  }
}

void run(const FillFromScalar& args, CudaStream stream) {
  if (args.write == GradWrite::skip) return;
  if (args.scalar.dtype == DType::f64 || !is_float(args.scalar.dtype)) {
    throw DTypeError(cat(FillFromScalar::kName, ": dtype of scalar is ", args.scalar.dtype,
                         ", expected f32, f16 or bf16 (what CUDA kernels compute with)"));
  }
  Rows y = args.y;
  flatten({&y});
  dispatch_cuda_float(y.dtype, FillFromScalar::kName, [&]<class T>() {
    dispatch_width<loop_width<T>()>(are_vector_aligned({y}), [&]<int kWidth>() {
      const FillFromScalarBody<T, kWidth> body{args.scalar.data,
                                               args.scalar.dtype,
                                               y.as<T>(),
                                               y.stride,
                                               static_cast<float>(args.factor),
                                               args.write == GradWrite::accumulate};
      launch_row_loop<kWidth>(y.rows, y.cols, body, stream);
    });
  });
}

}  // namespace lamina::kernels
