// SPDX-License-Identifier: MIT
// The two interfaces of device memory. An Allocator hands out blocks and decides when a freed block
// is used again; Storage calls it, one per device. A MemorySource is the mechanism below it: it
// gets memory from a device and knows its events. Policy (caching_allocator.h) and mechanism
// (host_memory.h, cuda/memory.h, the tests' FakeDevice) meet only here, so the whole policy is
// tested without a device.
#pragma once

#include "core/allocator_stats.h"
#include "core/stream.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace lamina {

/// A point in a stream's queue of work, given by MemorySource::record.
using Event = std::uint64_t;

/// Memory for tensors. All functions may be called from any thread.
class Allocator {
 public:
  virtual ~Allocator() = default;

  /// Returns a block of at least `bytes` bytes, aligned to 512 bytes unless the implementation says
  /// otherwise, for use on `stream`; work queued on that stream before an earlier owner freed the
  /// block is the only work that may still touch it. nullptr for 0 bytes. Throws OutOfMemory.
  virtual void* allocate(std::size_t bytes, StreamId stream) = 0;

  /// Takes a block back. Its own stream may reuse it at once; streams named by use_on must first
  /// finish the work queued so far. nullptr is allowed. Throws Error for a pointer that is not a
  /// live block of this allocator (freed twice, or made elsewhere): a caller that is noexcept, such
  /// as the destructor of Storage, ends the program there, with the message. That is meant: memory
  /// that two owners think they own cannot be saved.
  virtual void deallocate(void* block) = 0;

  /// Says that `stream` also uses the live block from now on, so that its reuse waits for that
  /// stream. No effect for the block's own stream. Throws Error for a pointer that is not a live
  /// block.
  virtual void use_on(void* block, StreamId stream) = 0;

  /// Gives all memory that can be given back to the device; returns how many bytes that were.
  virtual std::size_t trim() = 0;

  virtual AllocatorStats stats() const = 0;

  /// Starts peak_live and peak_reserved anew from the present values.
  virtual void reset_peaks() = 0;
};

/// Where an allocator's memory comes from: the only part that touches a device. Several allocators
/// may share one, so implementations are thread-safe.
///
/// Events: record() makes one, and the caller spends it exactly once: by a done() that returns
/// true, by wait(), or by discard(). A spent event is not named again, so an implementation may
/// reuse its handle and its number.
///
/// A device that has failed for good runs nothing any more: its events count as done, and no
/// function here throws for that failure, because blocks are freed while the exception that reports
/// it unwinds.
class MemorySource {
 public:
  /// Device memory in bytes; 0 = unknown.
  struct Info {
    std::size_t total = 0, free = 0;
  };

  virtual ~MemorySource() = default;

  /// Returns `bytes` bytes aligned to 512 bytes or more, or nullptr when the device is out of
  /// memory.
  virtual void* reserve(std::size_t bytes) = 0;

  /// Gives back what reserve(bytes) returned. Work already queued on any stream may still use the
  /// memory: an implementation waits for it or orders the release after it (cudaFree does).
  virtual void release(void* memory, std::size_t bytes) noexcept = 0;

  /// Returns an event that is done when all work queued on `stream` so far is done.
  virtual Event record(StreamId stream) = 0;

  /// Whether the event is done. Never blocks. true spends the event.
  virtual bool done(Event event) = 0;

  /// Blocks the host until the event is done, and spends it. Called only when memory has run out.
  virtual void wait(Event event) = 0;

  /// Spends the event without waiting for it.
  virtual void discard(Event event) noexcept = 0;

  /// The device for messages, such as "cuda:0".
  virtual std::string name() const = 0;

  /// For the out-of-memory message.
  virtual Info info() const { return {}; }

  /// Told that [memory, memory + bytes) now belongs to a tensor (usable) or to nobody, so that a
  /// memory checker can tell the two apart. Called on the hot path.
  virtual void mark([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes,
                    [[maybe_unused]] bool usable) noexcept {}
};

}  // namespace lamina
