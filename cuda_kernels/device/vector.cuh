// SPDX-License-Identifier: MIT
// Pack: a few neighbouring elements that move with one load or store. A kernel is written once over
// Pack<T, kWidth> and instantiated with kVectorWidth<T> (16 bytes: one 512 B request per warp) for
// operands that pass is_vector_aligned(), and with 1 for all others.
#pragma once

#include "cuda_kernels/device/convert.cuh"

#include <cstdint>

namespace lamina::device {

/// Elements of T in 16 bytes.
template <class T>
inline constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];

  __device__ __forceinline__ T& operator[](int i) { return values[i]; }

  __device__ __forceinline__ const T& operator[](int i) const { return values[i]; }

  __device__ __forceinline__ float at(int i) const { return to_float(values[i]); }

  __device__ __forceinline__ void set(int i, float value) { values[i] = from_float<T>(value); }
};

/// Reads kWidth elements; `from` is aligned to sizeof(T) * kWidth.
template <int kWidth, class T>
__device__ __forceinline__ Pack<T, kWidth> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, kWidth>*>(from);
}

/// The same through the read-only path, for operands that the kernel does not write: such loads may
/// move ahead of stores.
template <int kWidth, class T>
__device__ __forceinline__ Pack<T, kWidth> load_constant_pack(const T* from) {
  Pack<T, kWidth> pack;
  if constexpr (sizeof(pack) == 16) {
    const uint4 words = __ldg(reinterpret_cast<const uint4*>(from));
    __builtin_memcpy(&pack, &words, sizeof(pack));
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      pack[i] = __ldg(from + i);
  }
  return pack;
}

/// Writes kWidth elements; `to` is aligned to sizeof(T) * kWidth.
template <class T, int kWidth>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, kWidth>& pack) {
  *reinterpret_cast<Pack<T, kWidth>*>(to) = pack;
}

/// Hides from the compiler that the pack was converted to floats before, so that between two passes
/// it keeps the packed 16-bit elements in registers and not their floats: half as many.
template <class T, int kWidth>
__device__ __forceinline__ void keep_packed(Pack<T, kWidth>& pack) {
  if constexpr (sizeof(T) == 2 && sizeof(pack) == 16) {
    uint4 words;
    __builtin_memcpy(&words, &pack, sizeof(pack));
    asm("" : "+r"(words.x), "+r"(words.y), "+r"(words.z), "+r"(words.w));
    __builtin_memcpy(&pack, &words, sizeof(pack));
  }
}

/// True when `data` starts on a 16-byte boundary; a null pointer (an operand that is not there)
/// does.
inline bool is_vector_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

/// The same for every row of a matrix with `stride` elements of `element_bytes` from row to row.
inline bool is_vector_aligned(const void* data, std::int64_t stride, std::int64_t element_bytes) {
  return data == nullptr || (is_vector_aligned(data) && stride * element_bytes % 16 == 0);
}

}  // namespace lamina::device
