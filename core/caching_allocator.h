// SPDX-License-Identifier: MIT
// CachingAllocator: the policy that makes device memory cheap. It takes large segments from a
// MemorySource, hands out blocks of them, and keeps what is freed for the next request, so that a
// training loop asks the device for nothing after its first steps. One per device, made by Storage;
// a StepGraph owns another one on the same source. docs/allocator.md explains the
// rules on one page.
#pragma once

#include "core/allocator.h"
#include "core/block_lists.h"
#include "core/profile_scope.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lamina {

/// Live bytes of one layer scope and direction.
struct MemoryHolder {
  std::string scope;  // innermost profiler path at the time of allocate(); "" outside of any scope
  Direction direction = Direction::forward;
  std::size_t bytes = 0;
  std::size_t blocks = 0;
};

/// What tables and viewers group memory by: "backward" for what backward passes allocate, else the
/// first part of the scope ("blocks" of "blocks.3.mlp"), "unknown" outside of any scope.
std::string_view memory_category(std::string_view scope, Direction direction);

/// One thing that happened to memory, see CachingAllocator::record_history.
struct MemoryEvent {
  /// free_requested: freed, but another stream still uses it; free_completed follows when that has
  /// finished. Other blocks are just freed.
  enum class Action : std::uint8_t {
    alloc,
    free,
    free_requested,
    free_completed,
    reserve,
    release,
    out_of_memory
  };
  Action action = Action::alloc;
  void* address = nullptr;  // nullptr for out_of_memory
  std::size_t bytes = 0;    // after rounding
  StreamId stream = 0;
  std::string_view scope;  // of the allocation, also for a free; valid as long as the allocator
  Direction direction = Direction::forward;
  std::int64_t time_ns = 0;  // of std::chrono::steady_clock
};

/// What the allocator holds at one moment, in address order within a segment.
struct SegmentSnapshot {
  struct Block {
    enum class State : std::uint8_t { free, live, pending };
    void* address = nullptr;
    std::size_t bytes = 0;
    std::size_t requested = 0;  // 0 unless live
    State state = State::free;
    std::string_view scope;  // of the allocation; valid as long as the allocator; "" when free
    Direction direction = Direction::forward;
  };

  void* address = nullptr;
  std::size_t bytes = 0;
  StreamId stream = 0;
  std::vector<Block> blocks;  // they tile the segment
};

class CachingAllocator final : public Allocator {
 public:
  /// Sizes in bytes. Blocks come from segments of their class, so that small blocks do not pin
  /// large ones.
  struct Options {
    std::size_t granule = 512;  // sizes are rounded to this power of two, >= 64
    std::size_t segment = std::size_t{2}
                          << 20;  // for small blocks; larger segments are multiples of it
    std::size_t small_limit = std::size_t{1} << 20;      // largest block of the small class
    std::size_t medium_segment = std::size_t{20} << 20;  // for the blocks between the two limits
    std::size_t medium_limit = std::size_t{10} << 20;  // above it, a segment is made for one block
  };

  /// The source must outlive the allocator. Throws Error for a granule that is not a power of two
  /// >= 64, and for a segment that is not a positive multiple of it.
  explicit CachingAllocator(MemorySource& source, const Options& options);
  explicit CachingAllocator(MemorySource& source);

  /// Gives every segment back. No block may be live any more.
  ~CachingAllocator() override;

  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  /// Tries, in this order: the smallest cached block that fits, new memory, releasing one cached
  /// segment that is large enough, releasing all, a segment of just this size, a cached block of
  /// another size class, and waiting for the blocks that other streams still use. Then it throws
  /// OutOfMemory, whose text says who holds the memory, by category and by layer; nothing has
  /// changed for the caller except that cached segments are gone.
  void* allocate(std::size_t bytes, StreamId stream) override;

  void deallocate(void* block) override;
  void use_on(void* block, StreamId stream) override;

  /// Gives back every segment without a live or pending block, unless reserving is off.
  std::size_t trim() override;

  AllocatorStats stats() const override;
  void reset_peaks() override;

  /// Off: no call touches the device. A request that no cached block serves throws Error and names
  /// the op; nothing is released; blocks that other streams use stay pending until reserving is
  /// allowed again. For the time of a graph capture, and for the life of the graph that replays
  /// into these addresses.
  void set_reserve_allowed(bool allowed);

  /// Live bytes by scope and direction, largest first.
  std::vector<MemoryHolder> holders() const;

  std::vector<SegmentSnapshot> snapshot() const;

  /// Starts a new history, or ends the present one, which stays readable. Keeps the last 2^20
  /// events.
  void record_history(bool on);
  std::vector<MemoryEvent> history() const;

 private:
  struct HistoryEntry {
    MemoryEvent::Action action;
    void* address;
    std::size_t bytes;
    StreamId stream;
    std::uint32_t scope;
    std::int64_t time_ns;
  };

  struct Request {
    std::size_t bytes;  // as asked for
    std::size_t size;   // rounded
    StreamId stream;
    std::uint32_t scope;
  };

  detail::SizeClass class_of(std::size_t size) const;
  detail::Pools& pools_of(StreamId stream);
  std::size_t segment_size(const Request& request) const;

  detail::Block* find_block(const Request& request);
  detail::Block* from_cache(const Request& request, detail::SizeClass size_class);
  detail::Block* from_other_class(const Request& request);
  detail::Block* from_device(const Request& request, std::size_t segment_bytes);
  detail::Block* climb_ladder(const Request& request);
  detail::Block* live_block(const char* op, const void* data) const;

  void split(detail::Block* block, std::size_t size);
  void make_free(detail::Block* block);
  void end_use(detail::Block* block);
  void queue_uses(detail::Block* block);
  bool poll();
  bool wait_for_pending();

  bool release_one(std::size_t bytes);
  std::size_t release_free();
  void release(detail::Segment* segment);

  std::vector<MemoryHolder> sorted_holders() const;
  [[noreturn]] void fail(const Request& request);
  std::string out_of_memory_text(const Request& request) const;
  void log(MemoryEvent::Action action, void* address, std::size_t bytes, StreamId stream,
           std::uint32_t scope);

  MemorySource& source_;
  const Options options_;
  mutable std::mutex mutex_;  // guards all below; also held while the source works
  AllocatorStats stats_;
  detail::LiveBlocks live_;
  std::unordered_map<StreamId, detail::Pools> pools_;
  std::pair<StreamId, detail::Pools*> last_pools_ = {0, nullptr};
  detail::BlockNodes nodes_;
  std::vector<std::unique_ptr<detail::Segment>> segments_;
  std::vector<detail::PendingUses> pending_;
  std::vector<detail::Block*> deferred_;  // freed while reserving is off: events are to come
  bool reserve_allowed_ = true;
  detail::ScopeNames scopes_;
  bool recording_ = false;
  std::deque<HistoryEntry> history_;
};

}  // namespace lamina
