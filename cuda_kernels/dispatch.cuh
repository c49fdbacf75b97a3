// SPDX-License-Identifier: MIT
// Turns runtime values into template arguments of CUDA kernels.
#pragma once

#include "core/dtype.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <string_view>

namespace lamina::kernels {

/// Calls f.operator()<T>() with T = float, __half or __nv_bfloat16. Throws DTypeError naming `op`
/// for any other dtype.
template <class F>
decltype(auto) dispatch_cuda_float(DType dtype, std::string_view op, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f16:
      return f.template operator()<__half>();
    case DType::bf16:
      return f.template operator()<__nv_bfloat16>();
    default:
      throw DTypeError(cat(op, ": dtype is ", dtype,
                           ", expected f32, f16 or bf16 (what CUDA kernels ",
                           "compute with); convert with .to(DType::f32)"));
  }
}

/// Calls f.operator()<true>() or <false>().
template <class F>
decltype(auto) dispatch_bool(bool value, F&& f) {
  return value ? f.template operator()<true>() : f.template operator()<false>();
}

}  // namespace lamina::kernels
