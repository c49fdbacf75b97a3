// SPDX-License-Identifier: MIT
// CachingAllocator against a model: long random runs on a fake device of little memory. The model
// is a map of the intervals in use; after every operation it checks what the allocator gave out and
// what it counts, and now and then the whole snapshot. Failures of the device are injected at every
// possible place of a short run.
#include "core/caching_allocator.h"
#include "core/error.h"
#include "tests/support/fake_device.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <stdexcept>
#include <vector>

namespace lamina {
namespace {

using testing::FakeDevice;
using testing::operator""_KiB;
using testing::operator""_MiB;
using State = SegmentSnapshot::Block::State;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kOperations = 1'000'000;
#else
constexpr int kOperations = 10'000'000;
#endif
constexpr int kSweepEvery = 5'000;
constexpr std::size_t kGranule = 512;
constexpr std::size_t kCapacity = 256_MiB;
constexpr StreamId kStreams = 4;
constexpr std::size_t kManyLive = 600;

std::size_t rounded(std::size_t bytes) {
  return (bytes + kGranule - 1) / kGranule * kGranule;
}

/// Runs operations on an allocator and on the model, and compares the two.
class Model {
 public:
  explicit Model(std::uint64_t seed) : random_(seed) {}

  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  bool one_in(std::uint64_t n) { return below(n) == 0; }

  std::size_t live_blocks() const { return order_.size(); }

  std::uint64_t out_of_memory() const { return out_of_memory_; }

  /// Between 1 byte and 32 MiB, as many in each octave; often a size that was seen before.
  std::size_t random_size() {
    if (!one_in(4)) return sizes_[below(sizes_.size())];
    const std::size_t top = std::size_t{1} << below(26);
    return sizes_[below(sizes_.size())] = top + below(top);
  }

  void allocate() {
    const std::size_t bytes = random_size();
    const StreamId stream = 1 + below(kStreams);
    ++requests_;
    try {
      add(allocator.allocate(bytes, stream), bytes, stream);
    } catch (const OutOfMemory&) {
      ++failures_;
      if (++out_of_memory_ % 16 == 1) expect_out_of_memory(bytes, stream);
    } catch (const Error&) {
      ++failures_;
      EXPECT_TRUE(frozen_) << "only a pool that may not reserve refuses while there is memory";
    }
  }

  void free_one() {
    if (order_.empty()) return;
    const std::size_t i = below(order_.size());
    const std::uintptr_t begin = order_[i];
    const Owned owned = live_.at(begin);
    const Event before = device.last_event();
    try {
      allocator.deallocate(reinterpret_cast<void*>(begin));
    } catch (const std::runtime_error&) {  // an injected failure of record(): the block stays live
      return;
    }
    if (owned.shared) {
      blocked_[begin] = {.end = begin + owned.bytes, .after = before, .until = device.last_event()};
    }
    order_[i] = order_.back();
    order_.pop_back();
    live_.erase(begin);
    requested_ -= owned.bytes;
    rounded_ -= rounded(owned.bytes);
  }

  void use_on() {
    if (order_.empty()) return;
    const std::uintptr_t begin = order_[below(order_.size())];
    const StreamId stream = 1 + below(kStreams);
    allocator.use_on(reinterpret_cast<void*>(begin), stream);
    Owned& owned = live_.at(begin);
    owned.shared = owned.shared || stream != owned.stream;
  }

  void set_frozen(bool frozen) {
    frozen_ = frozen;
    allocator.set_reserve_allowed(!frozen);
    // The events of blocks freed while the pool was frozen come only now; a test of its own follows
    // them.
    if (!frozen) {
      std::erase_if(blocked_,
                    [](const auto& entry) { return entry.second.after == entry.second.until; });
    }
  }

  void check_counts() {
    const AllocatorStats stats = allocator.stats();
    ASSERT_EQ(stats.requested, requested_);
    ASSERT_EQ(stats.live, rounded_);
    ASSERT_EQ(stats.reserved, device.used());
    ASSERT_LE(stats.live + stats.pending, stats.reserved);
    ASSERT_GE(stats.peak_live, stats.live);
    ASSERT_GE(stats.peak_reserved, stats.reserved);
    ASSERT_EQ(stats.hits + stats.misses, requests_);
    ASSERT_EQ(stats.failures, failures_);
    ASSERT_EQ(stats.reserves - stats.releases, device.segments());
  }

  /// Blocks tile their segments, free neighbours are merged, and the sums are those of the
  /// statistics.
  void check_snapshot() {
    std::map<State, std::size_t> sums;
    std::size_t live = 0;
    for (const SegmentSnapshot& segment : allocator.snapshot()) {
      ASSERT_TRUE(device.holds(segment.address, segment.bytes));
      const char* next = static_cast<const char*>(segment.address);
      bool free_before = false;
      for (const SegmentSnapshot::Block& block : segment.blocks) {
        ASSERT_EQ(static_cast<const char*>(block.address), next);
        ASSERT_FALSE(free_before && block.state == State::free) << "two free neighbours";
        next += block.bytes;
        free_before = block.state == State::free;
        sums[block.state] += block.bytes;
        if (block.state != State::live) continue;
        ++live;
        const auto owned = live_.find(reinterpret_cast<std::uintptr_t>(block.address));
        ASSERT_NE(owned, live_.end());
        ASSERT_EQ(block.requested, owned->second.bytes);
        ASSERT_EQ(block.bytes, rounded(owned->second.bytes));
        ASSERT_EQ(segment.stream, owned->second.stream);
      }
      ASSERT_EQ(next, static_cast<const char*>(segment.address) + segment.bytes);
    }
    const AllocatorStats stats = allocator.stats();
    ASSERT_EQ(live, live_.size());
    ASSERT_EQ(sums[State::live], stats.live);
    ASSERT_EQ(sums[State::pending], stats.pending);
    ASSERT_EQ(sums[State::free], stats.cached());
  }

  /// Frees everything and expects the device to get it all back.
  void drain() {
    set_frozen(false);
    while (!order_.empty())
      free_one();
    device.finish_all();
    allocator.trim();
    EXPECT_EQ(allocator.stats().live, 0U);
    EXPECT_EQ(allocator.stats().pending, 0U);
    EXPECT_EQ(allocator.stats().reserved, 0U);
    EXPECT_EQ(device.used(), 0U);
    EXPECT_TRUE(device.unspent().empty());
  }

  FakeDevice device{kCapacity};
  CachingAllocator allocator{device};

 private:
  struct Owned {
    std::size_t bytes;
    StreamId stream;
    bool shared;  // another stream uses it
  };

  /// Memory that was freed while other streams used it. The events (after, until] protect it; there
  /// are none yet for a block freed in a frozen pool, which stays out of use as long as the pool is
  /// frozen.
  struct Blocked {
    std::uintptr_t end;
    Event after, until;
  };

  void add(void* address, std::size_t bytes, StreamId stream) {
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    const std::uintptr_t end = begin + bytes;
    ASSERT_EQ(begin % kGranule, 0U);
    ASSERT_TRUE(device.holds(address, rounded(bytes)));
    const auto next = live_.lower_bound(begin);
    ASSERT_TRUE(next == live_.end() || next->first >= end) << "overlaps the block behind it";
    if (next != live_.begin()) {
      const auto before = std::prev(next);
      ASSERT_LE(before->first + before->second.bytes, begin) << "overlaps the block before it";
    }
    // Blocked intervals do not overlap each other, so going back from `end` stops at the first that
    // ends before begin.
    for (auto blocked = blocked_.lower_bound(end); blocked != blocked_.begin();) {
      --blocked;
      if (blocked->second.end <= begin) break;
      ASSERT_TRUE(is_over(blocked->second)) << "handed out while another stream uses it";
      blocked = blocked_.erase(blocked);
    }
    live_.emplace(begin, Owned{.bytes = bytes, .stream = stream, .shared = false});
    order_.push_back(begin);
    requested_ += bytes;
    rounded_ += rounded(bytes);
  }

  bool is_over(const Blocked& blocked) const {
    return blocked.after != blocked.until && device.finished_between(blocked.after, blocked.until);
  }

  /// The allocator was right to give up: nothing it holds for the stream fits, and the device
  /// cannot give it either.
  void expect_out_of_memory(std::size_t bytes, StreamId stream) {
    EXPECT_FALSE(frozen_);
    EXPECT_GT(rounded(bytes), kCapacity - device.used());
    for (const SegmentSnapshot& segment : allocator.snapshot()) {
      EXPECT_TRUE(segment.blocks.size() > 1 || segment.blocks[0].state == State::live)
          << "a free or pending segment was kept";
      for (const SegmentSnapshot::Block& block : segment.blocks) {
        EXPECT_NE(block.state, State::pending);
        EXPECT_FALSE(block.state == State::free && segment.stream == stream &&
                     block.bytes >= rounded(bytes));
      }
    }
  }

  std::mt19937_64 random_;
  std::vector<std::size_t> sizes_ = std::vector<std::size_t>(32, 1000);
  std::map<std::uintptr_t, Owned> live_;
  std::map<std::uintptr_t, Blocked> blocked_;
  std::vector<std::uintptr_t> order_;  // live blocks, for a random choice
  std::size_t requested_ = 0;
  std::size_t rounded_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t failures_ = 0;
  std::uint64_t out_of_memory_ = 0;  // those failures that were not for a frozen pool
  bool frozen_ = false;
};

TEST(CachingAllocatorModel, KeepsItsPromisesInALongRandomRun) {
  Model model(1337);
  for (int i = 0; i < kOperations; ++i) {
    const std::uint64_t choice = model.below(1000);
    // The number of live blocks wanders, so that the device is now nearly empty and now overfull.
    const std::uint64_t allocations = model.live_blocks() > kManyLive ? 300
                                      : (i >> 14) % 2 == 0            ? 480
                                                                      : 400;
    if (choice < allocations) {
      model.allocate();
    } else if (choice < 860) {
      model.free_one();
    } else if (choice < 960) {
      model.use_on();
    } else if (choice < 990) {
      model.device.finish_one(1 + model.below(kStreams));
    } else if (choice < 997) {
      model.device.finish(1 + model.below(kStreams));
    } else if (choice < 999) {
      if (model.one_in(4)) model.set_frozen(model.one_in(8));
    } else {
      model.allocator.trim();
      model.allocator.reset_peaks();
    }
    model.check_counts();
    if (i % kSweepEvery == 0) model.check_snapshot();
    ASSERT_FALSE(::testing::Test::HasFailure()) << "at operation " << i;
  }
  const AllocatorStats stats = model.allocator.stats();
  EXPECT_GT(stats.hits, stats.misses);
  // Else the run tests too little.
  EXPECT_GT(model.out_of_memory(), 1000U);
  EXPECT_GT(stats.failures, model.out_of_memory());
  EXPECT_GT(stats.retries, model.out_of_memory());
  EXPECT_GT(model.device.waits(), 1000);
  model.drain();
}

/// A short run that is the same for every injected failure.
void short_run(Model& model) {
  for (int i = 0; i < 400; ++i) {
    const std::uint64_t choice = model.below(10);
    if (choice < 5) {
      model.allocate();
    } else if (choice < 7) {
      model.free_one();
    } else if (choice < 9) {
      model.use_on();
    } else {
      model.device.finish(1 + model.below(kStreams));
    }
    model.check_counts();
    model.check_snapshot();
  }
}

int reserves_of_a_short_run() {
  Model model(7);
  short_run(model);
  return model.device.reserve_calls();
}

TEST(CachingAllocatorModel, LosesNothingWhenAnyOneReserveFails) {
  const int calls = reserves_of_a_short_run();
  ASSERT_GT(calls, 20);
  for (int k = 1; k <= calls; ++k) {
    Model model(7);
    model.device.fail_reserve(k);
    short_run(model);
    EXPECT_GE(model.allocator.stats().retries, 1U)
        << "the failure of call " << k << " was not seen";
    model.drain();
    ASSERT_FALSE(::testing::Test::HasFailure()) << "when call " << k << " fails";
  }
}

TEST(CachingAllocatorModel, LosesNothingWhenTheDeviceIsFullFromAnyPointOn) {
  const int calls = reserves_of_a_short_run();
  for (int k = 1; k <= calls; ++k) {
    FakeDevice device(kCapacity);
    device.fail_reserves_from(k);
    CachingAllocator allocator(device);
    std::mt19937_64 random(7);
    std::vector<void*> live;
    for (int i = 0; i < 200; ++i) {
      try {
        live.push_back(allocator.allocate(1 + random() % 4_MiB, 1));
        if (i % 3 == 0) allocator.use_on(live.back(), 2);
      } catch (const OutOfMemory& error) {
        EXPECT_EQ(error.stats.failures, allocator.stats().failures);
      }
      if (i % 2 == 0 && !live.empty()) {
        allocator.deallocate(live.front());
        live.erase(live.begin());
      }
    }
    for (void* block : live)
      allocator.deallocate(block);
    device.finish_all();
    allocator.trim();
    ASSERT_EQ(device.used(), 0U) << "when calls from " << k << " on fail";
    ASSERT_EQ(allocator.stats().live, 0U);
    ASSERT_TRUE(device.unspent().empty());
  }
}

TEST(CachingAllocatorModel, LosesNothingWhenAnyOneRecordFails) {
  Model first(7);
  short_run(first);
  const int calls = first.device.record_calls();
  ASSERT_GT(calls, 10);
  for (int k = 1; k <= calls; ++k) {
    Model model(7);
    model.device.fail_record(k);
    short_run(model);
    model.drain();
    ASSERT_FALSE(::testing::Test::HasFailure()) << "when call " << k << " fails";
  }
}

TEST(CachingAllocatorModel, StaysFastWithManyFreeBlocksOfNearlyTheSameSize) {
  FakeDevice device(4096_MiB);
  CachingAllocator allocator(device);
  std::mt19937_64 random(3);
  std::vector<void*> blocks;
  for (int i = 0; i < 20'000; ++i)
    blocks.push_back(allocator.allocate(64_KiB + random() % 2_KiB, 1));
  for (std::size_t i = 0; i < blocks.size(); i += 2)
    allocator.deallocate(blocks[i]);
  const AllocatorStats before = allocator.stats();
  // Every second block is free: a request takes a hole and leaves it as it was.
  for (int i = 0; i < 50'000; ++i) {
    allocator.deallocate(allocator.allocate(64_KiB + random() % 1_KiB, 1));
  }
  EXPECT_EQ(allocator.stats().reserved, before.reserved);
  EXPECT_EQ(allocator.stats().live, before.live);
}

}  // namespace
}  // namespace lamina
