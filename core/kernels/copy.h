// SPDX-License-Identifier: MIT
// Contract: copy between any strides and dtypes on one device. Behind contiguous(), to(), and the
// gradients of views.
#pragma once

#include "core/shape.h"
#include "core/stream.h"
#include "core/view.h"

#include <array>
#include <string_view>

namespace lamina::kernels {

/// to[i] = from[i] (or += for accumulate, float dtypes only) for every index i of `shape`.
/// from and to must not overlap. Conversions round to nearest even; floats to integers truncate.
struct Copy {
  static constexpr std::string_view kName = "copy";
  const void* from;  // in
  void* to;          // out
  Shape shape;
  std::array<std::int64_t, Shape::kMaxRank> from_strides, to_strides;  // elements
  DType from_dtype, to_dtype;
  GradWrite write = GradWrite::overwrite;

  Cost cost() const {
    return {.bytes = shape.elements() *
                     static_cast<std::int64_t>(size_of(from_dtype) + size_of(to_dtype))};
  }
};

void run(const Copy& args, CpuStream stream);
void run(const Copy& args, CudaStream stream);

}  // namespace lamina::kernels
