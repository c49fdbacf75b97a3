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

/// The two elements of a 32-bit word; the first is in the low half.
template <class T>
__device__ __forceinline__ void to_two_floats(unsigned word, float& first, float& second);

template <>
__device__ __forceinline__ void to_two_floats<__half>(unsigned word, float& first, float& second) {
  __half2 pair;
  __builtin_memcpy(&pair, &word, sizeof(pair));
  const float2 both = __half22float2(pair);
  first = both.x;
  second = both.y;
}

template <>  // a bf16 is the upper half of a float: one instruction each
__device__ __forceinline__ void to_two_floats<__nv_bfloat16>(unsigned word, float& first,
                                                             float& second) {
  first = __uint_as_float(word << 16U);
  second = __uint_as_float(word & 0xffff0000U);
}

/// Two elements rounded and put into a word with one instruction.
template <class T>
__device__ __forceinline__ unsigned from_two_floats(float first, float second);

template <>
__device__ __forceinline__ unsigned from_two_floats<__half>(float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  unsigned word;
  __builtin_memcpy(&word, &pair, sizeof(word));
  return word;
}

template <>
__device__ __forceinline__ unsigned from_two_floats<__nv_bfloat16>(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  unsigned word;
  __builtin_memcpy(&word, &pair, sizeof(word));
  return word;
}

}  // namespace lamina::device
