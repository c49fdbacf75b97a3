// SPDX-License-Identifier: MIT
// What an allocator counts; part of Allocator::stats() and of the OutOfMemory exception.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lamina {

struct AllocatorStats {
  std::size_t live = 0;           // bytes handed out now, after rounding
  std::size_t requested = 0;      // bytes handed out now, before rounding
  std::size_t pending = 0;        // bytes freed, but another stream may still use them
  std::size_t reserved = 0;       // bytes taken from the memory source now
  std::size_t peak_live = 0;      // bytes
  std::size_t peak_reserved = 0;  // bytes
  std::uint64_t hits = 0;         // requests served from the cache
  std::uint64_t misses = 0;       // requests that no cached block of their class and stream served
  std::uint64_t retries = 0;      // misses for which the device had no new segment at first
  std::uint64_t failures = 0;     // requests that could not be served
  std::uint64_t reserves = 0;     // successful allocations from the memory source
  std::uint64_t releases = 0;     // segments given back to the memory source

  /// Bytes taken from the memory source that are free for the next request.
  std::size_t cached() const { return reserved - live - pending; }

  bool operator==(const AllocatorStats&) const = default;
};

}  // namespace lamina
