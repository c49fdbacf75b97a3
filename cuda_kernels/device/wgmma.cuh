// SPDX-License-Identifier: MIT
// Hopper's own instructions (sm_90a): matrix products of a warpgroup of four warps on tiles in
// shared memory, tensor copies that bring such tiles, and the barriers that say when they have
// arrived.
//
// A tile is 64 rows of 64 2-byte elements: 128 bytes to a row, 8 KiB in all, on a boundary of 1
// KiB. The 16-byte unit u of row r lies at unit u ^ (r % 8), so that eight rows of one unit touch
// all 32 banks; the copies write it, and the products read it, in this order. PTX ISA,
// "Asynchronous Warpgroup Level Matrix Instructions", "Strides" and "Tensor Swizzling Modes".
//
// The accumulator d of [64, 64]: warp w of the warpgroup holds rows 16 w ... 16 w + 15, and its
// lane 4 g + t in d[n] columns 8 n + 2 t, 8 n + 2 t + 1 of row g ([0], [1]) and of row g + 8 ([2],
// [3]). An a operand in registers lies as that of mma.m16n8k16 (device/mma.cuh).
#pragma once

#include "cuda_kernels/device/mma.cuh"

#include <cstdint>
#include <type_traits>

namespace lamina::device {

inline constexpr int kTileRows = 64;
inline constexpr int kTileColumns = 64;
inline constexpr int kTileBytes = kTileRows * kTileColumns * 2;
inline constexpr int kWarpgroup = 128;  // threads

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// What products take for a tile at `address`: the lower half of a descriptor, which alone varies.
/// Serves for products over columns (a, and b of multiply_shared) and over rows (b of
/// multiply_registers): groups of eight rows are 1 KiB apart.
__device__ __forceinline__ std::uint32_t tile_descriptor(std::uint32_t address) {
  constexpr std::uint32_t kGroupBytes = 1024;
  return (kGroupBytes >> 4U) << 16U | (address & 0x3ffffU) >> 4U;
}

/// The descriptor `bytes` further on.
__device__ __forceinline__ std::uint32_t advance(std::uint32_t descriptor, int bytes) {
  return descriptor + static_cast<std::uint32_t>(bytes >> 4);
}

/// The descriptor as the instruction takes it: 128-byte swizzle, and the same 1 KiB.
__device__ __forceinline__ std::uint64_t whole_descriptor(std::uint32_t descriptor) {
  constexpr std::uint64_t kUpper = 0x4000004000000000U;
  return kUpper | descriptor;
}

/// Before products that read registers or shared memory which this thread has written.
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/// Closes the group of the products since the last one.
__device__ __forceinline__ void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// Waits until at most the last kPending groups run.
template <int kPending>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving uses of `values` across this point, before begin_products() and
/// after wait_for_products().
template <int kRows>
__device__ __forceinline__ void pin(float (&values)[kRows][4]) {
#pragma unroll
  for (int n = 0; n < kRows; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      asm volatile("" : "+f"(values[n][i])::"memory");
  }
}

template <int kRows>
__device__ __forceinline__ void pin(std::uint32_t (&values)[kRows][4]) {
#pragma unroll
  for (int n = 0; n < kRows; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      asm volatile("" : "+r"(values[n][i])::"memory");
  }
}

/// d = a b^T, or d += that, for 16 columns of a [64, 16] and b [64, 16], both in shared memory.
/// Asynchronous: d must not be touched before wait_for_products().
template <class T>
__device__ __forceinline__ void multiply_shared(float (&d)[8][4], std::uint32_t a, std::uint32_t b,
                                                bool accumulate) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "
        "%30, %31"
        "}, %32, %33, p, 1, 1, 0, 0;\n}"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
          "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
          "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]),
          "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]),
          "+f"(d[7][2]), "+f"(d[7][3])
        : "l"(whole_descriptor(a)), "l"(whole_descriptor(b)), "r"(static_cast<int>(accumulate)));
  } else {
    static_assert(std::is_same_v<T, __half>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "
        "%30, %31"
        "}, %32, %33, p, 1, 1, 0, 0;\n}"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
          "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
          "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]),
          "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]),
          "+f"(d[7][2]), "+f"(d[7][3])
        : "l"(whole_descriptor(a)), "l"(whole_descriptor(b)), "r"(static_cast<int>(accumulate)));
  }
}

/// The same with a [64, 16] in registers and, when kOverRows, with 16 rows of b [16, 64]: d = a b.
/// Asynchronous: neither d nor a may be touched before wait_for_products().
template <class T, bool kOverRows>
__device__ __forceinline__ void multiply_registers(float (&d)[8][4], const std::uint32_t (&a)[4],
                                                   std::uint32_t b, bool accumulate) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "
        "%30, %31"
        "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
          "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
          "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]),
          "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]),
          "+f"(d[7][2]), "+f"(d[7][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(whole_descriptor(b)),
          "r"(static_cast<int>(accumulate)), "n"(kOverRows ? 1 : 0));
  } else {
    static_assert(std::is_same_v<T, __half>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "
        "%30, %31"
        "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
          "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
          "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]),
          "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]),
          "+f"(d[7][2]), "+f"(d[7][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(whole_descriptor(b)),
          "r"(static_cast<int>(accumulate)), "n"(kOverRows ? 1 : 0));
  }
}

/// A barrier in shared memory: a phase ends when `arrivals` threads have arrived and all bytes that
/// they expect are there. PTX ISA, "mbarrier".
__device__ __forceinline__ void open_barrier(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// After the barriers are open, before others use them.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives, with `bytes` on their way.
__device__ __forceinline__ void arrive_expecting(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

/// Waits for the end of a phase of that parity: 0 for the first, 1 for the second, and so on.
__device__ __forceinline__ void wait_for_phase(std::uint32_t barrier, int parity) {
  std::uint32_t done = 0;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
        "selp.b32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (done == 0);
}

/// Starts the copy of the tile at (column, head, row, batch) of a tensor map. What lies past the
/// tensor's end becomes zero.
__device__ __forceinline__ void copy_tile_async(std::uint32_t to, const void* map, int column,
                                                int head, int row, int batch,
                                                std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
      "l"(map), "r"(column), "r"(head), "r"(row), "r"(batch), "r"(barrier)
      : "memory");
}

/// Waits for all threads of the warpgroup. Barrier 0 is that of the whole block.
__device__ __forceinline__ void wait_for_warpgroup(int warpgroup) {
  asm volatile("bar.sync %0, %1;" ::"r"(warpgroup + 1), "n"(kWarpgroup) : "memory");
}

/// The same; true where `value` is true for any of them.
__device__ __forceinline__ bool any_of_warpgroup(int warpgroup, bool value) {
  std::uint32_t any;
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.ne.u32 p, %1, 0;\n"
      "bar.red.or.pred q, %2, %3, p;\nselp.u32 %0, 1, 0, q;\n}"
      : "=r"(any)
      : "r"(static_cast<std::uint32_t>(value)), "r"(warpgroup + 1), "n"(kWarpgroup)
      : "memory");
  return any != 0;
}

/// The inverse of load_matrices() (device/mma.cuh).
__device__ __forceinline__ void store_matrices(std::uint32_t address, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

__device__ __forceinline__ uint4 load_shared_16(std::uint32_t address) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(address)
               : "memory");
  return value;
}

__device__ __forceinline__ std::uint32_t load_shared_4(std::uint32_t address) {
  std::uint32_t value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

/// The value of another lane; for all lanes of the warp.
__device__ __forceinline__ float2 shuffle(float2 value, int lane) {
  return {__shfl_sync(0xffffffffU, value.x, lane), __shfl_sync(0xffffffffU, value.y, lane)};
}

/// threadIdx.x, in a form that the compiler does not compute with ahead of time: what is derived
/// from it takes no registers before this point.
__device__ __forceinline__ std::uint32_t thread_again() {
  std::uint32_t thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

/// Before a copy into shared memory that this thread has touched, and a barrier in between.
__device__ __forceinline__ void publish_to_copies() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Sets the registers of each thread of the warpgroup, all of which call it.
template <int kCount>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

template <int kCount>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

#endif

}  // namespace lamina::device
