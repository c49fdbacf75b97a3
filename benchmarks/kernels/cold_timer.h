// SPDX-License-Identifier: MIT
// Device time of an operation on CUDA, without what flatters it: calls go through many sets of
// operands, so that none finds its operands in the L2 cache, and all calls are in one CUDA graph,
// so that no launch from the host is timed. docs/kernels/layer_norm.md says what is made of it.
#pragma once

#include "core/stream.h"

#include <cstdint>
#include <functional>

namespace lamina::bench {

/// cold: each call finds its operands in device memory; hot: in the L2 cache, as far as they fit.
enum class Regime : std::uint8_t { cold, hot };

/// Sets of operands of `bytes_per_set` bytes that a regime wants: together more than four times the
/// L2 cache and at least two for cold (4096 at most: sets below 60 KB stay in a cache of 60 MB),
/// one for hot.
int sets_for(Regime regime, std::int64_t bytes_per_set, CudaStream stream);

struct TimerOptions {
  int replays = 15;               // timed replays of the graph
  int warm_up_replays = 3;        // before them
  double least_replay_us = 1000;  // calls are added until a replay lasts about that long
};

/// Microseconds per call: median and percentiles over the replays, each of them a mean over
/// `calls`.
struct Timing {
  double median_us = 0;
  double p20_us = 0;
  double p80_us = 0;
  int sets = 0;
  int calls = 0;  // per replay, a multiple of sets
  int replays = 0;
};

/// Times call(set) for set 0, 1, ... sets - 1, 0, 1, ... on `stream`, which must not be the legacy
/// default stream (it cannot be captured). A call queues work on the stream and must neither
/// allocate nor wait; it runs once outside the graph first. bytes_per_call, what a call moves, only
/// decides how many calls a replay has. Throws CudaError when a launch or the execution fails.
Timing time_calls(const std::function<void(int set)>& call, int sets, std::int64_t bytes_per_call,
                  CudaStream stream, const TimerOptions& options = {});

/// The same for the fastest plain copy that moves `bytes` (half of them read, half written): the
/// better of a 16-byte vectorised kernel and cudaMemcpyAsync. `from` and `to` are device blocks of
/// `sets` * copy_set_bytes(bytes) bytes.
Timing time_copy(const void* from, void* to, std::int64_t bytes, int sets, CudaStream stream,
                 const TimerOptions& options = {});

/// Bytes of `from`, and of `to`, that one copy touches; a multiple of 256.
constexpr std::int64_t copy_set_bytes(std::int64_t bytes) {
  return (bytes / 2 + 255) / 256 * 256;
}

/// Queues a copy of `bytes`, a multiple of 16, between blocks aligned to 16 bytes.
void copy_16_bytes_wide(const void* from, void* to, std::int64_t bytes, CudaStream stream);

}  // namespace lamina::bench
