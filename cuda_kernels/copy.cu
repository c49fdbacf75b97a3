// SPDX-License-Identifier: MIT
// Copy on CUDA: any strides, any pair of dtypes. The host sorts the dimensions by the stride they
// are written with, merges those that are contiguous in both tensors, and leaves the innermost one
// as the columns of a row_loop; the offsets of a row come from dividing its number by the outer
// extents.
#include "core/kernels/copy.h"
#include "cuda_kernels/device/divisor.cuh"
#include "cuda_kernels/row_loop.cuh"

#include <algorithm>
#include <numeric>
#include <type_traits>

namespace lamina::kernels {
namespace {

constexpr int kMaxRank = Shape::kMaxRank;

/// The dimensions that are left, outermost first; the last one is `cols` and its strides.
struct Layout {
  int outer = 0;  // dimensions besides the columns
  std::int64_t extents[kMaxRank] = {};
  device::Divisor divisors[kMaxRank];  // of the extents
  std::int64_t from_strides[kMaxRank] = {};
  std::int64_t to_strides[kMaxRank] = {};
  std::int64_t rows = 1;
  std::int64_t cols = 1;
  std::int64_t from_col_stride = 1;
  std::int64_t to_col_stride = 1;
};

Layout collapse(const Copy& args) {
  std::array<int, kMaxRank> order{};
  int rank = 0;
  for (int i = 0; i < args.shape.rank(); ++i) {
    if (args.shape[i] != 1) order[static_cast<std::size_t>(rank++)] = i;
  }
  const auto stride_of = [](const auto& strides, int i) {
    return strides[static_cast<std::size_t>(i)];
  };
  std::stable_sort(order.begin(), order.begin() + rank, [&](int a, int b) {
    return stride_of(args.to_strides, a) > stride_of(args.to_strides, b);
  });
  Layout layout;
  int last = -1;
  for (int k = 0; k < rank; ++k) {
    const int i = order[static_cast<std::size_t>(k)];
    const std::int64_t extent = args.shape[i];
    const std::int64_t from_stride = stride_of(args.from_strides, i);
    const std::int64_t to_stride = stride_of(args.to_strides, i);
    if (last >= 0 && layout.from_strides[last] == from_stride * extent &&
        layout.to_strides[last] == to_stride * extent) {
      layout.extents[last] *= extent;
    } else {
      layout.extents[++last] = extent;
    }
    layout.from_strides[last] = from_stride;
    layout.to_strides[last] = to_stride;
  }
  if (last >= 0) {
    layout.cols = layout.extents[last];
    layout.from_col_stride = layout.from_strides[last];
    layout.to_col_stride = layout.to_strides[last];
    layout.outer = last;
    for (int i = 0; i < last; ++i) {
      layout.rows *= layout.extents[i];
      layout.divisors[i] = device::Divisor(layout.extents[i]);
    }
  }
  return layout;
}

template <class T>
inline constexpr bool kIsFloat =
    std::is_floating_point_v<T> || std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;

/// `value` as To with one rounding; floats to integers truncate.
template <class To, class From>
__device__ __forceinline__ To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<From, __half> || std::is_same_v<From, __nv_bfloat16>) {
    return convert<To>(device::to_float(value));
  } else if constexpr (std::is_same_v<To, __half> || std::is_same_v<To, __nv_bfloat16>) {
    if constexpr (std::is_same_v<From, float>) {
      return device::from_float<To>(value);
    } else if constexpr (std::is_same_v<To, __half>) {  // double holds every i32 and u8
      return __double2half(static_cast<double>(value));
    } else {
      return __double2bfloat16(static_cast<double>(value));
    }
  } else {
    return static_cast<To>(value);
  }
}

/// previous + value, rounded to To once.
template <class To, class From>
__device__ __forceinline__ To add(To previous, From value) {
  if constexpr (std::is_same_v<To, double> || std::is_same_v<From, double>) {
    return convert<To>(convert<double>(previous) + convert<double>(value));
  } else {
    return device::from_float<To>(device::to_float(previous) + device::to_float(value));
  }
}

template <class From, class To, int kWidth>
struct CopyBody {
  const From* from;
  To* to;
  Layout layout;
  bool accumulate;

  struct Row {
    const From* from;
    To* to;
  };

  __device__ Row row(std::int64_t row) const {
    std::int64_t from_offset = 0;
    std::int64_t to_offset = 0;
    std::int64_t left = row;
#pragma unroll
    for (int i = kMaxRank - 2; i >= 0; --i) {
      if (i < layout.outer) {
        std::int64_t position = 0;
        layout.divisors[i].divide(left, left, position);
        from_offset += position * layout.from_strides[i];
        to_offset += position * layout.to_strides[i];
      }
    }
    return {from + from_offset, to + to_offset};
  }

  __device__ void apply(const Row& row, std::int64_t col, int count) const {
    if constexpr (kWidth == 1) {
      const From value = row.from[col * layout.from_col_stride];
      To* const target = row.to + col * layout.to_col_stride;
      store(target, value);
    } else if (count == kWidth) {
      copy_pack(row.from + col, row.to + col);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if (i < count) store(row.to + col + i, row.from[col + i]);
      }
    }
  }

 private:
  __device__ void store(To* target, From value) const {
    if constexpr (kIsFloat<From> && kIsFloat<To>) {
      *target = accumulate ? add(*target, value) : convert<To>(value);
    } else {
      *target = convert<To>(value);
    }
  }

  __device__ void copy_pack(const From* source, To* target) const {
    constexpr int kFromPiece = std::min(kWidth, device::kVectorWidth<From>);
    constexpr int kToPiece = std::min(kWidth, device::kVectorWidth<To>);
    From values[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; i += kFromPiece) {
      const auto piece = device::load_pack<kFromPiece>(source + i);
#pragma unroll
      for (int j = 0; j < kFromPiece; ++j)
        values[i + j] = piece[j];
    }
#pragma unroll
    for (int i = 0; i < kWidth; i += kToPiece) {
      device::Pack<To, kToPiece> piece;
      if constexpr (kIsFloat<From> && kIsFloat<To>) {
        if (accumulate) {
          piece = device::load_pack<kToPiece>(target + i);
#pragma unroll
          for (int j = 0; j < kToPiece; ++j)
            piece[j] = add(piece[j], values[i + j]);
        } else {
#pragma unroll
          for (int j = 0; j < kToPiece; ++j)
            piece[j] = convert<To>(values[i + j]);
        }
      } else {
#pragma unroll
        for (int j = 0; j < kToPiece; ++j)
          piece[j] = convert<To>(values[i + j]);
      }
      device::store_pack(target + i, piece);
    }
  }
};

/// Whether every row starts on a 16-byte boundary and both tensors have contiguous columns.
bool is_aligned(const Copy& args, const Layout& layout) {
  if (layout.from_col_stride != 1 || layout.to_col_stride != 1) return false;
  const auto from_bytes = static_cast<std::int64_t>(size_of(args.from_dtype));
  const auto to_bytes = static_cast<std::int64_t>(size_of(args.to_dtype));
  bool aligned = device::is_vector_aligned(args.from) && device::is_vector_aligned(args.to);
  for (int i = 0; i < layout.outer; ++i) {
    aligned = aligned && layout.from_strides[i] * from_bytes % 16 == 0 &&
              layout.to_strides[i] * to_bytes % 16 == 0;
  }
  return aligned;
}

template <class From, class To>
void copy_as(const Copy& args, const Layout& layout, CudaStream stream) {
  constexpr int kVector =
      std::is_same_v<From, To> ? loop_width<From>() : std::min(loop_width<From, To>(), 8);
  dispatch_width<kVector>(is_aligned(args, layout), [&]<int kWidth>() {
    const CopyBody<From, To, kWidth> body{static_cast<const From*>(args.from),
                                          static_cast<To*>(args.to), layout,
                                          args.write == GradWrite::accumulate};
    launch_row_loop<kWidth>(layout.rows, layout.cols, body, stream);
  });
}

/// Calls f.operator()<T>() with the device type of any dtype.
template <class F>
void dispatch_device_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f16:
      return f.template operator()<__half>();
    case DType::bf16:
      return f.template operator()<__nv_bfloat16>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::u8:
      return f.template operator()<std::uint8_t>();
  }
}

}  // namespace

void run(const Copy& args, CudaStream stream) {
  if (args.write == GradWrite::skip || args.shape.elements() == 0) return;
  const Layout layout = collapse(args);
  dispatch_device_type(args.from_dtype, [&]<class From>() {
    dispatch_device_type(args.to_dtype,
                         [&]<class To>() { copy_as<From, To>(args, layout, stream); });
  });
}

}  // namespace lamina::kernels
