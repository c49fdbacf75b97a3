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

/// All elements of a pack as floats, two at a time where they are 16 bits wide.
template <class T, int kWidth>
__device__ __forceinline__ void to_floats(const Pack<T, kWidth>& pack, float (&to)[kWidth]) {
  if constexpr (sizeof(T) == 2 && kWidth % 2 == 0) {
    unsigned words[kWidth / 2];
    __builtin_memcpy(words, &pack, sizeof(pack));
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i)
      to_two_floats<T>(words[i], to[2 * i], to[2 * i + 1]);
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      to[i] = pack.at(i);
  }
}

template <class T, int kWidth>
__device__ __forceinline__ Pack<T, kWidth> from_floats(const float (&from)[kWidth]) {
  Pack<T, kWidth> pack;
  if constexpr (sizeof(T) == 2 && kWidth % 2 == 0) {
    unsigned words[kWidth / 2];
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i)
      words[i] = from_two_floats<T>(from[2 * i], from[2 * i + 1]);
    __builtin_memcpy(&pack, words, sizeof(pack));
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      pack.set(i, from[i]);
  }
  return pack;
}

namespace detail {
/// What a pack of that many bytes is moved as.
template <int kBytes>
struct WordOf;

template <>
struct WordOf<16> {
  using Type = uint4;
};

template <>
struct WordOf<8> {
  using Type = uint2;
};

template <>
struct WordOf<4> {
  using Type = unsigned;
};

template <>
struct WordOf<2> {
  using Type = unsigned short;
};

template <>
struct WordOf<1> {
  using Type = unsigned char;
};
}  // namespace detail

/// Reads kWidth elements; `from` is aligned to sizeof(T) * kWidth.
template <int kWidth, class T>
__device__ __forceinline__ Pack<T, kWidth> load_pack(const T* from) {
  using Word = typename detail::WordOf<sizeof(T) * kWidth>::Type;
  const Word word = *reinterpret_cast<const Word*>(from);
  Pack<T, kWidth> pack;
  __builtin_memcpy(&pack, &word, sizeof(pack));
  return pack;
}

/// How a load treats the first-level cache: keeps what it reads there, or leaves room for others
/// (streamed). What is cached must not be written while the kernel runs, nor by one that
/// start_next_kernel() lets it overlap, and may be read ahead of earlier writes to elsewhere, which
/// takes registers; in_order is not.
enum class Keep : std::uint8_t { cached, in_order, streamed };

#define LAMINA_LOAD_IF(statement, load)                                                      \
  statement(                                                                                 \
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %5, 0;\n\t"                                      \
      "mov.b32 %0, %6;\n\tmov.b32 %1, %6;\n\tmov.b32 %2, %6;\n\tmov.b32 %3, %6;\n\t@p " load \
      ".v4.b32 {%0, %1, %2, %3}, [%4];\n\t}"                                                 \
      : "=&r"(words.x), "=&r"(words.y), "=&r"(words.z), "=&r"(words.w)                       \
      : "l"(from), "r"(static_cast<int>(valid)), "r"(fill))

/// Reads kWidth elements if `valid`, else gives `fill` in each 32-bit word; without a branch for 16
/// bytes.
template <int kWidth, Keep kKeep, class T>
__device__ __forceinline__ Pack<T, kWidth> load_pack_if(const T* from, bool valid,
                                                        unsigned fill = 0) {
  Pack<T, kWidth> pack;
  if constexpr (sizeof(pack) == 16) {
    uint4 words;
    if constexpr (kKeep == Keep::streamed) {
      LAMINA_LOAD_IF(asm volatile, "ld.global.L1::no_allocate");
    } else if constexpr (kKeep == Keep::in_order) {
      LAMINA_LOAD_IF(asm volatile, "ld.global");
    } else {
      LAMINA_LOAD_IF(asm, "ld.global.nc");
    }
    __builtin_memcpy(&pack, &words, sizeof(pack));
  } else if (valid) {
    pack = load_pack<kWidth>(from);
  } else if constexpr (sizeof(pack) % 4 == 0) {
    unsigned words[sizeof(pack) / 4];
#pragma unroll
    for (unsigned& word : words)
      word = fill;
    __builtin_memcpy(&pack, words, sizeof(pack));
  } else {
    __builtin_memcpy(&pack, &fill, sizeof(pack));
  }
  return pack;
}

#undef LAMINA_LOAD_IF

/// Writes kWidth elements if `valid`; without a branch for 16 bytes.
template <class T, int kWidth>
__device__ __forceinline__ void store_pack_if(T* to, const Pack<T, kWidth>& pack, bool valid) {
  if constexpr (sizeof(pack) == 16) {
    uint4 words;
    __builtin_memcpy(&words, &pack, sizeof(pack));
    asm volatile(
        "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %5, 0;\n\t"
        "@p st.global.v4.b32 [%4], {%0, %1, %2, %3};\n\t}" ::"r"(words.x),
        "r"(words.y), "r"(words.z), "r"(words.w), "l"(to), "r"(static_cast<int>(valid))
        : "memory");
  } else if (valid) {
    store_pack(to, pack);
  }
}

/// Writes kWidth elements; `to` is aligned to sizeof(T) * kWidth.
template <class T, int kWidth>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, kWidth>& pack) {
  using Word = typename detail::WordOf<sizeof(T) * kWidth>::Type;
  Word word;
  __builtin_memcpy(&word, &pack, sizeof(pack));
  *reinterpret_cast<Word*>(to) = word;
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
