// SPDX-License-Identifier: MIT
// The data structures of CachingAllocator: blocks that tile segments, free blocks by size, live
// blocks by address. All are intrusive or open-addressed, so that a request served from the cache
// allocates nothing on the host. Internal to caching_allocator.cpp.
#pragma once

#include "core/allocator.h"
#include "core/profile_scope.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lamina::detail {

struct Pool;
struct Segment;

enum class BlockState : std::uint8_t { free, live, pending };

/// A piece of a segment. The blocks of a segment form a list in address order; no two neighbours
/// are both free.
struct Block {
  char* data = nullptr;
  std::size_t bytes = 0;
  std::size_t requested = 0;  // bytes that the owner of a live block asked for
  Segment* segment = nullptr;
  Block* left = nullptr;  // neighbours in the segment
  Block* right = nullptr;
  Block* smaller = nullptr;  // neighbours in the list of free blocks of about this size
  Block* larger = nullptr;
  BlockState state = BlockState::free;
  std::uint32_t scope = 0;  // where it was allocated: a number of ScopeNames
  std::uint32_t uses = 0;   // events to come before the memory may be reused
  std::vector<StreamId>
      used_on;  // other streams that use the live block; they get an event when it is freed
};

/// One reservation of the memory source.
struct Segment {
  char* data = nullptr;
  std::size_t bytes = 0;
  Pool* pool = nullptr;
  Block* first = nullptr;
  std::size_t index = 0;  // in the allocator's list of segments

  bool is_free() const { return first->state == BlockState::free && first->right == nullptr; }
};

/// Free blocks by size, for an exact best fit. Bins hold one size each up to 128 granules and 1/64
/// of an octave above; a bin is a list sorted by size, and a bitmap with a summary word finds the
/// next bin that is not empty.
class FreeBlocks {
 public:
  /// granule: the power of two, at least 64, that all sizes are multiples of.
  explicit FreeBlocks(std::size_t granule) : shift_(std::countr_zero(granule)) {}

  void insert(Block* block) {
    const std::size_t bin = bin_of(block->bytes);
    Block* smaller = nullptr;
    Block* larger = heads_[bin];
    while (larger != nullptr && larger->bytes < block->bytes) {
      smaller = larger;
      larger = larger->larger;
    }
    block->smaller = smaller;
    block->larger = larger;
    if (larger != nullptr) larger->smaller = block;
    (smaller != nullptr ? smaller->larger : heads_[bin]) = block;
    words_[bin / 64] |= std::uint64_t{1} << (bin % 64);
    summary_ |= std::uint64_t{1} << (bin / 64);
  }

  void erase(Block* block) {
    if (block->larger != nullptr) block->larger->smaller = block->smaller;
    if (block->smaller != nullptr) {
      block->smaller->larger = block->larger;
      return;
    }
    const std::size_t bin = bin_of(block->bytes);
    heads_[bin] = block->larger;
    if (heads_[bin] != nullptr) return;
    words_[bin / 64] &= ~(std::uint64_t{1} << (bin % 64));
    if (words_[bin / 64] == 0) summary_ &= ~(std::uint64_t{1} << (bin / 64));
  }

  /// The smallest free block of at least `bytes` bytes, or nullptr.
  Block* best_fit(std::size_t bytes) const {
    const std::size_t bin = bin_of(bytes);
    for (Block* block = heads_[bin]; block != nullptr; block = block->larger) {
      if (block->bytes >= bytes) return block;
    }
    return head_from(bin + 1);
  }

  /// The size of the largest free block; 0 when there is none.
  std::size_t largest() const {
    if (summary_ == 0) return 0;
    const auto word = static_cast<std::size_t>(std::bit_width(summary_)) - 1;
    const Block* block =
        heads_[word * 64 + static_cast<std::size_t>(std::bit_width(words_[word])) - 1];
    while (block->larger != nullptr)
      block = block->larger;
    return block->bytes;
  }

 private:
  static constexpr int kSubBits = 6;  // 64 bins per octave
  // A size of at most 2^57 granules is in bin 64 * 50 + 127 or below.
  static constexpr std::size_t kWords = 52;

  std::size_t bin_of(std::size_t bytes) const {
    const std::size_t granules = bytes >> shift_;
    const int octave = std::max(0, static_cast<int>(std::bit_width(granules)) - kSubBits - 1);
    return (static_cast<std::size_t>(octave) << kSubBits) + (granules >> octave);
  }

  /// The smallest block of the first bin that is not empty, from `bin` on.
  Block* head_from(std::size_t bin) const {
    std::size_t word = bin / 64;
    std::uint64_t bits = word < kWords ? words_[word] >> (bin % 64) << (bin % 64) : 0;
    if (bits == 0) {
      const std::uint64_t later = word < 63 ? summary_ >> (word + 1) << (word + 1) : 0;
      if (later == 0) return nullptr;
      word = static_cast<std::size_t>(std::countr_zero(later));
      bits = words_[word];
    }
    return heads_[word * 64 + static_cast<std::size_t>(std::countr_zero(bits))];
  }

  int shift_;
  std::uint64_t summary_ = 0;                  // bit w: words_[w] is not zero
  std::array<std::uint64_t, kWords> words_{};  // bit b of word w: bin 64 w + b is not empty
  std::array<Block*, kWords * 64> heads_{};    // [bins], the smallest block of each
};

/// Live blocks by address: open addressing, linear probing, at most half full.
class LiveBlocks {
 public:
  std::size_t size() const { return size_; }

  /// Makes sure that the next insert() cannot fail.
  void make_room() {
    if (2 * (size_ + 1) <= slots_.size()) return;
    std::vector<Block*> old(slots_.size() * 2, nullptr);
    old.swap(slots_);
    size_ = 0;
    for (Block* block : old) {
      if (block != nullptr) insert(block);
    }
  }

  void insert(Block* block) noexcept {
    std::size_t slot = home(block->data);
    while (slots_[slot] != nullptr)
      slot = next(slot);
    slots_[slot] = block;
    ++size_;
  }

  /// The live block that starts at `data`, or nullptr.
  Block* find(const void* data) const {
    for (std::size_t slot = home(data); slots_[slot] != nullptr; slot = next(slot)) {
      if (slots_[slot]->data == data) return slots_[slot];
    }
    return nullptr;
  }

  void erase(const Block* block) {
    std::size_t hole = home(block->data);
    while (slots_[hole] != block)
      hole = next(hole);
    // Entries behind the hole move into it, unless that would put them before their home slot.
    for (std::size_t slot = next(hole); slots_[slot] != nullptr; slot = next(slot)) {
      const std::size_t from_home = (slot - home(slots_[slot]->data)) & (slots_.size() - 1);
      const std::size_t from_hole = (slot - hole) & (slots_.size() - 1);
      if (from_home >= from_hole) {
        slots_[hole] = slots_[slot];
        hole = slot;
      }
    }
    slots_[hole] = nullptr;
    --size_;
  }

  /// Calls visit(block) for every live block, in no particular order.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const Block* block : slots_) {
      if (block != nullptr) visit(*block);
    }
  }

 private:
  std::size_t home(const void* data) const {
    // 2^64 / golden ratio; the upper half of the product depends on all bits of the address.
    const auto hash = reinterpret_cast<std::uintptr_t>(data) * std::uint64_t{0x9E3779B97F4A7C15};
    return static_cast<std::size_t>(hash >> 32U) & (slots_.size() - 1);
  }

  std::size_t next(std::size_t slot) const { return (slot + 1) & (slots_.size() - 1); }

  std::vector<Block*> slots_ = std::vector<Block*>(256, nullptr);  // a power of two
  std::size_t size_ = 0;
};

enum SizeClass : std::size_t { kSmall, kMedium, kLarge, kSizeClasses };

/// The free blocks of one stream and one size class.
struct Pool {
  StreamId stream;
  FreeBlocks free;
};

using Pools = std::array<Pool, kSizeClasses>;

/// Freed blocks that one stream may still use, in the order of the events on that stream.
struct PendingUses {
  StreamId stream;
  std::deque<std::pair<Event, Block*>> uses;
};

/// Small numbers for scopes (a name and a direction), so that a block keeps four bytes. Names are
/// few: the paths of the layers. The lowest bit is the direction.
class ScopeNames {
 public:
  std::uint32_t intern(std::string_view name, Direction direction) {
    const auto bit = static_cast<std::uint32_t>(direction);
    if (name == names_[last_])
      return 2 * last_ + bit;  // neighbouring requests mostly come from the same layer
    const auto found = ids_.find(name);
    if (found != ids_.end()) {
      last_ = found->second;
    } else {
      last_ = static_cast<std::uint32_t>(names_.size());
      ids_.emplace(names_.emplace_back(name), last_);
    }
    return 2 * last_ + bit;
  }

  const std::string& name(std::uint32_t id) const { return names_[id / 2]; }

  static Direction direction(std::uint32_t id) { return static_cast<Direction>(id % 2); }

  /// All numbers that intern() gives are smaller.
  std::size_t limit() const { return 2 * names_.size(); }

 private:
  std::deque<std::string> names_ = {""};  // stable: ids_ refers to its strings
  std::unordered_map<std::string_view, std::uint32_t> ids_ = {{names_[0], 0}};
  std::uint32_t last_ = 0;
};

/// Block nodes, reused through a free list so that a split costs no host allocation.
class BlockNodes {
 public:
  Block* take() {
    if (unused_ == nullptr) return &nodes_.emplace_back();
    Block* node = std::exchange(unused_, unused_->right);
    *node = Block{};
    return node;
  }

  void give_back(Block* node) {
    node->right = unused_;
    unused_ = node;
  }

 private:
  std::deque<Block> nodes_;
  Block* unused_ = nullptr;  // linked by right
};

}  // namespace lamina::detail
