// SPDX-License-Identifier: MIT
// Sums over the threads of a row: part of a warp, a warp, a block, or a thread block cluster, whose
// blocks add up through each other's shared memory. PTX ISA, "st.async" and "mbarrier".
#pragma once

#include "cuda_kernels/device/warp.cuh"
#include "cuda_kernels/tuning/row_policy.h"

#include <cuda_runtime.h>

#include <cooperative_groups.h>
#include <cstdint>

namespace lamina::kernels::row_norm {

/// How far apart the threads of a row can be.
enum class RowReach : std::uint8_t { block, cluster };

/// The thread block cluster of this block, and numbers sent between its blocks, each on its way to
/// a Mailbox in shared memory. Below sm_90 there are no clusters; kernels for them are compiled but
/// never chosen.
struct Cluster {
  using Mailbox = std::uint64_t;  // an mbarrier that counts the bytes that arrive

#if __CUDA_ARCH__ >= 900
  static __device__ __forceinline__ unsigned rank() {
    return cooperative_groups::this_cluster().block_rank();
  }

  static __device__ __forceinline__ unsigned blocks() {
    return cooperative_groups::this_cluster().num_blocks();
  }

  static __device__ __forceinline__ void synchronise() {
    cooperative_groups::this_cluster().sync();
  }

  static __device__ __forceinline__ void open(Mailbox& mailbox) {
    asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(address(&mailbox)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }

  /// By one thread of the block, once for each time that all of `bytes` arrive.
  static __device__ __forceinline__ void expect(Mailbox& mailbox, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(address(&mailbox)),
                 "r"(bytes)
                 : "memory");
  }

  /// Sends `value` to what `to` and `mailbox` are in the shared memory of block `block`. Not for a
  /// cluster of one block.
  static __device__ __forceinline__ void send(float value, float* to, Mailbox& mailbox,
                                              unsigned block) {
    unsigned remote, remote_mailbox;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address(to)), "r"(block));
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(remote_mailbox)
        : "r"(address(&mailbox)), "r"(block));
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(remote),
        "r"(__float_as_uint(value)), "r"(remote_mailbox)
        : "memory");
  }

  /// Waits until what was expected is there; `parity` is 0 the first time, then 1, 0, ...
  static __device__ __forceinline__ void receive(Mailbox& mailbox, unsigned parity) {
    asm volatile(
        "{\n\t.reg .pred is_there;\n\twait:\n\t"
        "mbarrier.try_wait.parity.shared.b64 is_there, [%0], %1;\n\t"
        "@!is_there bra wait;\n\t}" ::"r"(address(&mailbox)),
        "r"(parity)
        : "memory");
  }

 private:
  static __device__ __forceinline__ unsigned address(const void* shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
  }

#else
  static __device__ __forceinline__ unsigned rank() {
    return 0;
  }

  static __device__ __forceinline__ unsigned blocks() {
    return 1;
  }

  static __device__ __forceinline__ void synchronise() {}

  static __device__ __forceinline__ void open(Mailbox&) {}

  static __device__ __forceinline__ void expect(Mailbox&, unsigned) {}

  static __device__ __forceinline__ void send(float, float*, Mailbox&, unsigned) {}

  static __device__ __forceinline__ void receive(Mailbox&, unsigned) {}
#endif
};

/// Adds two numbers over the threads of a row, in a fixed order, and tells all of them what the
/// first one has. All threads of the block (of the cluster) make the same calls. Within a warp the
/// first half of the lanes adds up one of them and the second half the other, which takes half the
/// shuffles. Then every thread adds up the warps' sums of the block; of a cluster, where there are
/// up to 128, every warp does.
template <RowReach kReach>
class RowSum {
  static constexpr bool kCluster = kReach == RowReach::cluster;
  static constexpr int kMaxWarps = tuning::kMaxRowThreads / device::kWarpSize;
  static constexpr int kMaxBlocks = kCluster ? tuning::kMaxRowCluster : 1;
  static constexpr unsigned kHalf = device::kWarpSize / 2;
  static constexpr unsigned kQuad = 4;  // sums that are read at a time
  static_assert(kMaxWarps <= kHalf);

 public:
  /// Two slots, used in turn: one barrier per sum is enough. The sums of a row of several warps in
  /// a block are filled up to quads: all rows together at most twice the warps.
  struct alignas(16) Scratch {
    float sums[2][2][kMaxBlocks]
              [kCluster ? kMaxWarps : 2 * kMaxWarps];  // slot, number, block, warp
    Cluster::Mailbox mailboxes[2];                     // of each slot, for clusters
  };

  /// Waits until all blocks of a cluster are there.
  __device__ __forceinline__ explicit RowSum(Scratch& scratch) : scratch_(scratch) {
    warps_ = blockDim.x / device::kWarpSize;
    if constexpr (kCluster) {
      blocks_ = Cluster::blocks();
      if (threadIdx.x == 0) {
        for (Cluster::Mailbox& mailbox : scratch.mailboxes)
          Cluster::open(mailbox);
      }
      Cluster::synchronise();
    }
  }

  /// What the threads of a row did before is done when one of them goes on.
  __device__ __forceinline__ void synchronise() const {
    if constexpr (kCluster) {
      Cluster::synchronise();
    } else if (warps_ > 1) {
      __syncthreads();  // not a barrier for each row: with those only four blocks share an SM
    }
  }

  /// What the first thread of the row has, in all of its threads. Not for clusters.
  __device__ __forceinline__ float first(float value) {
    static_assert(!kCluster);
    if (warps_ <= 1) return __shfl_sync(device::kFullWarp, value, 0, static_cast<int>(blockDim.x));
    float& shared = scratch_.sums[slot_][0][0][first_sum()];
    if (threadIdx.x == 0) shared = value;
    __syncthreads();
    slot_ ^= 1;
    return shared;
  }

  /// Both become their sums.
  __device__ __forceinline__ void reduce(float (&values)[2]) {
    if constexpr (kCluster) {
      begin(values);
      end(values);
    } else if (warps_ == 0) {  // rows of 1 to 16 lanes
      for (unsigned offset = blockDim.x / 2; offset > 0; offset /= 2) {
        values[0] += shuffled(values[0], offset);
        values[1] += shuffled(values[1], offset);
      }
    } else if (warps_ == 1) {
      both(warp_sums(values), values);
    } else {
      begin(values);
      __syncthreads();
      end(values);
    }
  }

  /// The same in two steps for clusters, with other work between them.
  __device__ __forceinline__ void begin(const float (&values)[2]) {
    const unsigned warp = threadIdx.x / device::kWarpSize;
    const float sum = warp_sums(values);
    auto& sums = scratch_.sums[slot_][number()];
    if constexpr (kCluster) {
      constexpr unsigned kBytes = 2 * sizeof(float);  // from each warp
      Cluster::Mailbox& mailbox = scratch_.mailboxes[slot_];
      if (blocks_ == 1) {
        if (lane() == 0) sums[0][warp] = sum;
        return;
      }
      if (threadIdx.x == 0) Cluster::expect(mailbox, blocks_ * warps_ * kBytes);
      if (lane() < blocks_) Cluster::send(sum, &sums[Cluster::rank()][warp], mailbox, lane());
    } else {
      const unsigned pads = warp + 1 == warps_ ? quads() * kQuad - warps_ : 0;
      if (lane() <= pads) sums[0][first_sum() + warp + lane()] = lane() == 0 ? sum : 0.0F;
    }
  }

  __device__ __forceinline__ void end(float (&values)[2]) {
    const auto& sums = scratch_.sums[slot_];
    if constexpr (kCluster) {
      if (blocks_ == 1) {
        __syncthreads();
      } else {
        Cluster::receive(scratch_.mailboxes[slot_], parity_);
      }
      parity_ ^= slot_;
      float sum = 0.0F;
      if (lane() < warps_) {
#pragma unroll 2
        for (unsigned block = 0; block < blocks_; ++block)
          sum += sums[number()][block][lane()];
      }
      both(half_sum(sum), values);
    } else {
      values[0] = values[1] = 0.0F;
#pragma unroll 2
      for (unsigned quad = 0; quad < quads(); ++quad) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float4 four =
              *reinterpret_cast<const float4*>(&sums[k][0][first_sum() + quad * kQuad]);
          values[k] += (four.x + four.y) + (four.z + four.w);
        }
      }
    }
    slot_ ^= 1;
  }

  /// `condition`, which is the same in all threads of a row, in any row of the warp.
  __device__ __forceinline__ bool any(bool condition) const {
    return kCluster || warps_ > 1 ? condition : __any_sync(device::kFullWarp, condition);
  }

 private:
  /// Of the sums of a row in a block.
  __device__ __forceinline__ unsigned quads() const {
    return (warps_ + kQuad - 1) / kQuad;
  }

  /// Where those of this thread's row begin.
  __device__ __forceinline__ unsigned first_sum() const {
    return threadIdx.y * quads() * kQuad;
  }

  /// Of this half of the warp.
  static __device__ __forceinline__ unsigned lane() {
    return threadIdx.x % kHalf;
  }

  /// Which number this half of the warp adds up.
  static __device__ __forceinline__ unsigned number() {
    return threadIdx.x / kHalf % 2;
  }

  static __device__ __forceinline__ float shuffled(float value, unsigned offset) {
    return __shfl_xor_sync(device::kFullWarp, value, offset);
  }

  static __device__ __forceinline__ float half_sum(float value) {
#pragma unroll
    for (unsigned offset = kHalf / 2; offset > 0; offset /= 2)
      value += shuffled(value, offset);
    return value;
  }

  /// Over the warp, of the number of each half.
  static __device__ __forceinline__ float warp_sums(const float (&values)[2]) {
    const bool is_first = number() == 0;
    const float sum = is_first ? values[0] : values[1];
    return half_sum(sum + shuffled(is_first ? values[1] : values[0], kHalf));
  }

  /// Gives all lanes what the halves have.
  static __device__ __forceinline__ void both(float sum, float (&values)[2]) {
    const float other = shuffled(sum, kHalf);
    values[0] = number() == 0 ? sum : other;
    values[1] = number() == 0 ? other : sum;
  }

  Scratch& scratch_;
  unsigned slot_ = 0;
  unsigned parity_ = 0;  // of the next receive()
  unsigned warps_;       // of the row in this block; 0: less than one
  unsigned blocks_ = 1;
};

}  // namespace lamina::kernels::row_norm
