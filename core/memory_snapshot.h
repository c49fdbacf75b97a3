// SPDX-License-Identifier: MIT
// What allocators did and hold, for people: memory over time, who held it at the peak, and the file
// that https://pytorch.org/memory_viz opens. An allocator writes its history down after
// CachingAllocator::record_history(true). docs/trace.md shows how to read the file.
#pragma once

#include "core/caching_allocator.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

struct TraceKernel;

/// One allocator at one moment, and how it got there. Names are views of the allocator's.
struct MemoryHistory {
  explicit MemoryHistory(const CachingAllocator& allocator);

  std::vector<MemoryEvent> events;  // oldest first
  std::vector<SegmentSnapshot> segments;
};

struct MemorySample {
  std::int64_t time_ns = 0;  // of the event
  std::size_t live = 0;      // bytes after it, in blocks that are handed out
  std::size_t reserved = 0;  // bytes after it, taken from the device
};

/// Memory after each event of all allocators, in order of time.
std::vector<MemorySample> memory_over_time(std::span<const MemoryHistory> histories);

/// Who held memory when the sum of live bytes was largest, the most recent time of several; by
/// scope and direction, largest first.
std::vector<MemoryHolder> holders_at_peak(std::span<const MemoryHistory> histories);

/// A table of the peak for a terminal: by category, then the `layers` largest holders, the rest as
/// one row; and how much of what is cached now is in one piece.
std::string memory_table(std::span<const MemoryHistory> histories, std::size_t layers = 12);

/// The histories as a pickle in the format of torch.cuda.memory._snapshot(): segments, blocks and
/// events, each with one frame that says "op @ layer" and the direction. `launches` are the kernels
/// of that time in order of start: a block belongs to the first one that is launched after it in
/// the same layer, as an op allocates its result just before the kernel that writes it. `device` is
/// the index that the viewer lists, history i its memory pool i.
std::string memory_snapshot(std::span<const MemoryHistory> histories,
                            std::span<const TraceKernel> launches, int device);

}  // namespace lamina
