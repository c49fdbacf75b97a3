// SPDX-License-Identifier: MIT
#include "core/caching_allocator.h"

#include "core/error.h"
#include "core/text.h"
#include "core/time_point.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <map>
#include <utility>

namespace lamina {

namespace {

using detail::Block;
using detail::BlockState;
using detail::FreeBlocks;
using detail::kLarge;
using detail::kMedium;
using detail::kSizeClasses;
using detail::kSmall;
using detail::PendingUses;
using detail::Pool;
using detail::Segment;
using detail::SizeClass;

constexpr std::size_t kHistoryLimit = std::size_t{1} << 20U;
constexpr std::size_t kHoldersInMessage = 5;

std::size_t round_up(std::size_t bytes, std::size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

std::string_view or_unnamed(std::string_view scope) {
  return scope.empty() ? "(no scope)" : scope;
}

std::string_view suffix_of(Direction direction) {
  return direction == Direction::backward ? " backward" : "";
}

}  // namespace

std::string_view memory_category(std::string_view scope, Direction direction) {
  if (direction == Direction::backward) return "backward";
  return scope.empty() ? "unknown" : scope.substr(0, scope.find('.'));
}

CachingAllocator::CachingAllocator(MemorySource& source) : CachingAllocator(source, Options{}) {}

CachingAllocator::CachingAllocator(MemorySource& source, const Options& options)
    : source_(source), options_(options) {
  if (!std::has_single_bit(options.granule) || options.granule < 64) {
    throw Error(cat("caching_allocator: granule is ", options.granule,
                    ", expected a power of two of at least 64 (blocks are aligned to it)"));
  }
  if (options.segment == 0 || options.segment % options.granule != 0) {
    throw Error(cat("caching_allocator: segment is ", options.segment, ", expected a multiple of ",
                    options.granule, " above 0 (the granule; segments are cut into blocks of it)"));
  }
}

CachingAllocator::~CachingAllocator() {
  for (const PendingUses& queue : pending_) {
    for (const auto& [event, block] : queue.uses)
      source_.discard(event);
  }
  for (const auto& segment : segments_)
    source_.release(segment->data, segment->bytes);
}

void* CachingAllocator::allocate(std::size_t bytes, StreamId stream) {
  if (bytes == 0) return nullptr;
  const std::string_view scope = current_scope();
  const Direction direction = current_direction();
  const std::lock_guard lock(mutex_);
  // A size beyond any address space fails on the ladder; the bound keeps rounding from overflowing.
  constexpr std::size_t kLargest = std::numeric_limits<std::size_t>::max() / 4;
  const Request request{.bytes = bytes,
                        .size = round_up(std::min(bytes, kLargest), options_.granule),
                        .stream = stream,
                        .scope = scopes_.intern(scope, direction)};
  live_.make_room();
  Block* block = find_block(request);
  split(block, request.size);
  block->state = BlockState::live;
  block->requested = bytes;
  block->scope = request.scope;
  live_.insert(block);
  stats_.live += block->bytes;
  stats_.requested += bytes;
  stats_.peak_live = std::max(stats_.peak_live, stats_.live);
  source_.mark(block->data, bytes, true);
  if (recording_) log(MemoryEvent::Action::alloc, block->data, block->bytes, stream, request.scope);
  return block->data;
}

SizeClass CachingAllocator::class_of(std::size_t size) const {
  return size <= options_.small_limit ? kSmall : size <= options_.medium_limit ? kMedium : kLarge;
}

/// Returns a free block that is in no list and at least as large as the request, or throws.
Block* CachingAllocator::find_block(const Request& request) {
  const SizeClass size_class = class_of(request.size);
  Block* block = from_cache(request, size_class);
  // Events are only asked when that may save a reservation: a query costs more than a cached block.
  if (block == nullptr && poll()) block = from_cache(request, size_class);
  if (block != nullptr) {
    ++stats_.hits;
    return block;
  }
  ++stats_.misses;
  block = reserve_allowed_ ? climb_ladder(request) : from_other_class(request);
  if (block == nullptr) fail(request);
  return block;
}

Block* CachingAllocator::climb_ladder(const Request& request) {
  const std::size_t segment = segment_size(request);
  if (Block* block = from_device(request, segment)) return block;
  ++stats_.retries;
  Block* block = nullptr;
  const auto reserve = [&](std::size_t bytes) {
    return (block = from_device(request, bytes)) != nullptr;
  };
  const auto other_class = [&] { return (block = from_other_class(request)) != nullptr; };
  const auto cached = [&] {
    return (block = from_cache(request, class_of(request.size))) != nullptr;
  };
  const auto with_what_is_free = [&] {
    release_free();
    return reserve(segment) || (request.size < segment && reserve(request.size)) || other_class();
  };
  (release_one(segment) && reserve(segment)) || with_what_is_free() ||
      (wait_for_pending() && (cached() || with_what_is_free()));
  return block;
}

Block* CachingAllocator::from_cache(const Request& request, SizeClass size_class) {
  FreeBlocks& free = pools_of(request.stream)[size_class].free;
  Block* block = free.best_fit(request.size);
  if (block != nullptr) free.erase(block);
  return block;
}

Block* CachingAllocator::from_other_class(const Request& request) {
  for (std::size_t i = 0; i < kSizeClasses; ++i) {
    if (Block* block = from_cache(request, static_cast<SizeClass>(i))) return block;
  }
  return nullptr;
}

Block* CachingAllocator::from_device(const Request& request, std::size_t segment_bytes) {
  segments_.reserve(segments_.size() + 1);
  auto segment = std::make_unique<Segment>();
  Block* block = nodes_.take();
  auto* data = static_cast<char*>(source_.reserve(segment_bytes));
  if (data == nullptr) {
    nodes_.give_back(block);
    return nullptr;
  }
  *segment = {.data = data,
              .bytes = segment_bytes,
              .pool = &pools_of(request.stream)[class_of(request.size)],
              .first = block,
              .index = segments_.size()};
  block->data = data;
  block->bytes = segment_bytes;
  block->segment = segment.get();
  segments_.push_back(std::move(segment));
  ++stats_.reserves;
  stats_.reserved += segment_bytes;
  stats_.peak_reserved = std::max(stats_.peak_reserved, stats_.reserved);
  source_.mark(data, segment_bytes, false);
  if (recording_) {
    log(MemoryEvent::Action::reserve, data, segment_bytes, request.stream, request.scope);
  }
  return block;
}

std::size_t CachingAllocator::segment_size(const Request& request) const {
  const std::size_t least =
      class_of(request.size) == kMedium ? options_.medium_segment : request.size;
  return round_up(std::max(least, request.size), options_.segment);
}

detail::Pools& CachingAllocator::pools_of(StreamId stream) {
  if (last_pools_.second == nullptr || last_pools_.first != stream) {
    auto found = pools_.find(stream);
    if (found == pools_.end()) {
      const Pool empty{.stream = stream, .free = FreeBlocks(options_.granule)};
      found = pools_.emplace(stream, std::array{empty, empty, empty}).first;
    }
    last_pools_ = {stream, &found->second};
  }
  return *last_pools_.second;
}

/// Cuts a block to `size`; the rest becomes a free block of its own.
void CachingAllocator::split(Block* block, std::size_t size) {
  if (block->bytes == size) return;
  Block* rest = nodes_.take();
  rest->data = block->data + size;
  rest->bytes = block->bytes - size;
  rest->segment = block->segment;
  rest->left = block;
  rest->right = block->right;
  if (rest->right != nullptr) rest->right->left = rest;
  block->right = rest;
  block->bytes = size;
  block->segment->pool->free.insert(rest);
}

/// Puts a block that nobody uses any more into its pool, merged with its free neighbours.
void CachingAllocator::make_free(Block* block) {
  FreeBlocks& free = block->segment->pool->free;
  source_.mark(block->data, block->bytes, false);
  const auto absorb_right = [&](Block* left) {
    Block* right = left->right;
    left->bytes += right->bytes;
    left->right = right->right;
    if (left->right != nullptr) left->right->left = left;
    nodes_.give_back(right);
  };
  if (block->right != nullptr && block->right->state == BlockState::free) {
    free.erase(block->right);
    absorb_right(block);
  }
  if (block->left != nullptr && block->left->state == BlockState::free) {
    block = block->left;
    free.erase(block);
    absorb_right(block);
  }
  block->state = BlockState::free;
  free.insert(block);
}

Block* CachingAllocator::live_block(const char* op, const void* data) const {
  Block* block = live_.find(data);
  if (block == nullptr) {
    throw Error(
        cat(op, ": ", data, " is not a live block of ", source_.name(),
            ", expected a pointer that this allocator gave out and that was not freed yet"));
  }
  return block;
}

void CachingAllocator::deallocate(void* data) {
  if (data == nullptr) return;
  const std::lock_guard lock(mutex_);
  Block* block = live_block("deallocate", data);
  const bool shared = !block->used_on.empty();
  // Before anything changes: if recording an event throws, the block is still live.
  if (shared && reserve_allowed_) queue_uses(block);
  if (shared && !reserve_allowed_) deferred_.push_back(block);
  live_.erase(block);
  stats_.live -= block->bytes;
  stats_.requested -= std::exchange(block->requested, 0);
  if (recording_) {
    log(shared ? MemoryEvent::Action::free_requested : MemoryEvent::Action::free, data,
        block->bytes, block->segment->pool->stream, block->scope);
  }
  if (!shared) {
    make_free(block);
    return;
  }
  block->state = BlockState::pending;
  stats_.pending += block->bytes;
  poll();  // keeps the queues short when every request is served from the cache
}

void CachingAllocator::use_on(void* data, StreamId stream) {
  if (data == nullptr) return;
  const std::lock_guard lock(mutex_);
  Block* block = live_block("use_on", data);
  if (stream == block->segment->pool->stream) return;
  auto& used_on = block->used_on;
  if (std::find(used_on.begin(), used_on.end(), stream) == used_on.end()) used_on.push_back(stream);
}

/// Queues an event for every other stream that uses the block.
void CachingAllocator::queue_uses(Block* block) {
  while (!block->used_on.empty()) {
    const StreamId stream = block->used_on.back();
    auto queue = std::find_if(pending_.begin(), pending_.end(), [&](const PendingUses& candidate) {
      return candidate.stream == stream;
    });
    if (queue == pending_.end()) queue = pending_.insert(queue, {.stream = stream, .uses = {}});
    queue->uses.emplace_back(0, block);
    try {
      queue->uses.back().first = source_.record(stream);
    } catch (const std::exception&) {
      queue->uses.pop_back();
      throw;
    }
    block->used_on.pop_back();
    ++block->uses;
  }
}

void CachingAllocator::end_use(Block* block) {
  // A block whose events could not all be recorded is still live, or still has streams to record.
  if (--block->uses > 0 || block->state != BlockState::pending || !block->used_on.empty()) return;
  stats_.pending -= block->bytes;
  if (recording_) {
    log(MemoryEvent::Action::free_completed, block->data, block->bytes,
        block->segment->pool->stream, block->scope);
  }
  make_free(block);
}

/// Frees the pending blocks whose events are done; whether there was one.
bool CachingAllocator::poll() {
  if (!reserve_allowed_) return false;
  bool any = false;
  for (PendingUses& queue : pending_) {
    while (!queue.uses.empty() && source_.done(queue.uses.front().first)) {
      Block* block = queue.uses.front().second;
      queue.uses.pop_front();
      end_use(block);
      any = true;
    }
  }
  return any;
}

bool CachingAllocator::wait_for_pending() {
  bool any = false;
  for (PendingUses& queue : pending_) {
    while (!queue.uses.empty()) {
      const auto [event, block] = queue.uses.front();
      source_.wait(event);
      queue.uses.pop_front();
      end_use(block);
      any = true;
    }
  }
  return any;
}

void CachingAllocator::set_reserve_allowed(bool allowed) {
  const std::lock_guard lock(mutex_);
  reserve_allowed_ = allowed;
  while (allowed && !deferred_.empty()) {
    queue_uses(deferred_.back());
    deferred_.pop_back();
  }
}

std::size_t CachingAllocator::trim() {
  const std::lock_guard lock(mutex_);
  if (!reserve_allowed_) return 0;
  poll();
  return release_free();
}

/// Releases the smallest free segment of at least `bytes` bytes; whether there was one.
bool CachingAllocator::release_one(std::size_t bytes) {
  Segment* smallest = nullptr;
  for (const auto& segment : segments_) {
    if (segment->bytes < bytes || !segment->is_free()) continue;
    if (smallest == nullptr || segment->bytes < smallest->bytes) smallest = segment.get();
  }
  if (smallest != nullptr) release(smallest);
  return smallest != nullptr;
}

std::size_t CachingAllocator::release_free() {
  const std::size_t before = stats_.reserved;
  for (std::size_t i = segments_.size(); i-- > 0;) {
    if (segments_[i]->is_free()) release(segments_[i].get());
  }
  return before - stats_.reserved;
}

void CachingAllocator::release(Segment* segment) {
  segment->pool->free.erase(segment->first);
  nodes_.give_back(segment->first);
  source_.release(segment->data, segment->bytes);
  ++stats_.releases;
  stats_.reserved -= segment->bytes;
  if (recording_) {
    log(MemoryEvent::Action::release, segment->data, segment->bytes, segment->pool->stream, 0);
  }
  const std::size_t index = segment->index;
  segments_[index].swap(segments_.back());
  segments_[index]->index = index;
  segments_.pop_back();
}

AllocatorStats CachingAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peaks() {
  const std::lock_guard lock(mutex_);
  stats_.peak_live = stats_.live;
  stats_.peak_reserved = stats_.reserved;
}

std::vector<MemoryHolder> CachingAllocator::holders() const {
  const std::lock_guard lock(mutex_);
  return sorted_holders();
}

std::vector<MemoryHolder> CachingAllocator::sorted_holders() const {
  std::vector<MemoryHolder> holders(scopes_.limit());
  live_.for_each([&](const Block& block) {
    holders[block.scope].bytes += block.bytes;
    ++holders[block.scope].blocks;
  });
  for (std::uint32_t i = 0; i < holders.size(); ++i)
    holders[i].scope = scopes_.name(i), holders[i].direction = scopes_.direction(i);
  std::erase_if(holders, [](const MemoryHolder& holder) { return holder.blocks == 0; });
  std::stable_sort(holders.begin(), holders.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return holders;
}

void CachingAllocator::fail(const Request& request) {
  ++stats_.failures;
  if (recording_) {
    log(MemoryEvent::Action::out_of_memory, nullptr, request.size, request.stream, request.scope);
  }
  if (reserve_allowed_) {
    throw OutOfMemory(out_of_memory_text(request), request.bytes, stats_);
  }
  throw Error(cat(or_unnamed(scopes_.name(request.scope)), ": needs ", bytes_text(request.bytes),
                  " of new memory on ", source_.name(),
                  ", expected a cached block (reserving is off, as during a graph capture); run "
                  "the same work in "
                  "this pool before the capture"));
}

std::string CachingAllocator::out_of_memory_text(const Request& request) const {
  const MemorySource::Info info = source_.info();
  const auto split_segments =
      std::count_if(segments_.begin(), segments_.end(),
                    [](const auto& segment) { return segment->first->right != nullptr; });
  std::size_t largest = 0;
  for (const auto& [stream, pools] : pools_) {
    for (const Pool& pool : pools)
      largest = std::max(largest, pool.free.largest());
  }
  std::string text =
      cat("out of memory on ", source_.name(), ": asked ", bytes_text(request.bytes));
  text += cat(" for ", or_unnamed(scopes_.name(request.scope)),
              suffix_of(scopes_.direction(request.scope)), "; ");
  if (info.total != 0) {
    text += cat(bytes_text(info.total), " total, ", bytes_text(info.free), " free, ");
  }
  text += cat(bytes_text(stats_.live), " live, ", bytes_text(stats_.cached()), " cached in ");
  text += cat(split_segments, " split segments; largest free block ", bytes_text(largest));
  const std::vector<MemoryHolder> holders = sorted_holders();
  std::map<std::string_view, std::size_t> categories;
  for (const MemoryHolder& holder : holders)
    categories[memory_category(holder.scope, holder.direction)] += holder.bytes;
  std::string_view separator = "; live by category: ";
  for (const auto& [category, bytes] : categories)
    text += cat(std::exchange(separator, ", "), category, " ", bytes_text(bytes));
  for (std::size_t i = 0; i < std::min(holders.size(), kHoldersInMessage); ++i) {
    text += cat(i == 0 ? "; largest holders: " : ", ", or_unnamed(holders[i].scope));
    text += cat(suffix_of(holders[i].direction), " ", bytes_text(holders[i].bytes));
  }
  return text + "; try a smaller batch, or trim() other allocators of this device";
}

std::vector<SegmentSnapshot> CachingAllocator::snapshot() const {
  using State = SegmentSnapshot::Block::State;
  const std::lock_guard lock(mutex_);
  std::vector<SegmentSnapshot> result;
  result.reserve(segments_.size());
  for (const auto& segment : segments_) {
    SegmentSnapshot& copy = result.emplace_back();
    copy.address = segment->data;
    copy.bytes = segment->bytes;
    copy.stream = segment->pool->stream;
    for (const Block* block = segment->first; block != nullptr; block = block->right) {
      const bool live = block->state == BlockState::live;
      const bool held = block->state != BlockState::free;
      copy.blocks.push_back(
          {.address = block->data,
           .bytes = block->bytes,
           .requested = block->requested,
           .state = live                                  ? State::live
                    : block->state == BlockState::pending ? State::pending
                                                          : State::free,
           .scope = held ? std::string_view(scopes_.name(block->scope)) : "",
           .direction = held ? detail::ScopeNames::direction(block->scope) : Direction::forward});
    }
  }
  return result;
}

void CachingAllocator::record_history(bool on) {
  const std::lock_guard lock(mutex_);
  recording_ = on;
  if (on) history_.clear();
}

void CachingAllocator::log(MemoryEvent::Action action, void* address, std::size_t bytes,
                           StreamId stream, std::uint32_t scope) {
  if (history_.size() == kHistoryLimit) history_.pop_front();
  history_.push_back({.action = action,
                      .address = address,
                      .bytes = bytes,
                      .stream = stream,
                      .scope = scope,
                      .time_ns = host_now().count()});
}

std::vector<MemoryEvent> CachingAllocator::history() const {
  const std::lock_guard lock(mutex_);
  std::vector<MemoryEvent> result;
  result.reserve(history_.size());
  for (const HistoryEntry& entry : history_) {
    result.push_back({.action = entry.action,
                      .address = entry.address,
                      .bytes = entry.bytes,
                      .stream = entry.stream,
                      .scope = scopes_.name(entry.scope),
                      .direction = detail::ScopeNames::direction(entry.scope),
                      .time_ns = entry.time_ns});
  }
  return result;
}

}  // namespace lamina
