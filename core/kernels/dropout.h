// SPDX-License-Identifier: MIT
// Contract: dropout without a stored mask.
#pragma once

#include "core/random.h"
#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// y = keep(i) ? keep_scale(p) x : 0, or y += that, where drop_threshold(p) says whether element i
/// = row * cols + col is kept. The backward pass is the same kernel on dy.
struct Dropout {
  static constexpr std::string_view kName = "dropout";
  Rows x;   // [rows, cols], in
  Rows y;   // [rows, cols], out; may alias x
  float p;  // in [0, 1)
  PhiloxKey key;
  GradWrite write = GradWrite::overwrite;

  Cost cost() const { return {.bytes = bytes_of(x) + bytes_of(y), .flops = x.elements()}; }
};

void run(const Dropout& args, CpuStream stream);
void run(const Dropout& args, CudaStream stream);

}  // namespace lamina::kernels
