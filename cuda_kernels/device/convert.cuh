// SPDX-License-Identifier: MIT
// Conversion between the element types of CUDA kernels and float. Kernels store float, __half or
// __nv_bfloat16 and compute in float; rounding is to nearest even.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace lamina::device {

__device__ __forceinline__ float to_float(float value) {
  return value;
}

__device__ __forceinline__ float to_float(__half value) {
  return __half2float(value);
}

__device__ __forceinline__ float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

/// `value` rounded to T.
template <class T>
__device__ __forceinline__ T from_float(float value);

template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}

template <>
__device__ __forceinline__ __half from_float<__half>(float value) {
  return __float2half_rn(value);
}

template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

}  // namespace lamina::device
