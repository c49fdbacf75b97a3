// SPDX-License-Identifier: MIT
// The rules of CachingAllocator one by one, on a fake device.
#include "core/caching_allocator.h"

#include "core/error.h"
#include "core/profile_scope.h"
#include "tests/support/fake_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

namespace lamina {
namespace {

using testing::FakeDevice;
using testing::kOther;
using testing::kStream;
using testing::operator""_KiB;
using testing::operator""_MiB;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Action = MemoryEvent::Action;

std::ptrdiff_t distance(void* from, void* to) {
  return static_cast<char*>(to) - static_cast<char*>(from);
}

std::size_t split_segments(const CachingAllocator& allocator) {
  std::size_t count = 0;
  for (const SegmentSnapshot& segment : allocator.snapshot())
    count += segment.blocks.size() > 1 ? 1 : 0;
  return count;
}

TEST(CachingAllocator, RoundsSizesUpToTheGranule) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* a = allocator.allocate(1, kStream);
  void* b = allocator.allocate(513, kStream);
  void* c = allocator.allocate(1024, kStream);
  EXPECT_EQ(distance(a, b), 512);
  EXPECT_EQ(distance(b, c), 1024);
  EXPECT_EQ(allocator.stats().live, 512U + 1024U + 1024U);
  EXPECT_EQ(allocator.stats().requested, 1U + 513U + 1024U);
}

TEST(CachingAllocator, RefusesAGranuleThatIsNoPowerOfTwo) {
  FakeDevice device(64_MiB);
  EXPECT_THROW(CachingAllocator(device, {.granule = 500}), Error);
  EXPECT_THROW(CachingAllocator(device, {.granule = 32}), Error);
}

TEST(CachingAllocator, RefusesASegmentThatIsNoMultipleOfTheGranule) {
  FakeDevice device(64_MiB);
  EXPECT_THROW(CachingAllocator(device, {.segment = 0}), Error);
  EXPECT_THROW(CachingAllocator(device, {.segment = 1000}), Error);
}

TEST(CachingAllocator, GivesNullForZeroBytesAndTakesItBack) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  EXPECT_EQ(allocator.allocate(0, kStream), nullptr);
  allocator.use_on(nullptr, kOther);
  allocator.deallocate(nullptr);
  EXPECT_EQ(allocator.stats(), AllocatorStats{});
}

TEST(CachingAllocator, ReusesAFreedBlockOnTheSameStreamWithoutTheDevice) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  for (const std::size_t bytes : {std::size_t{1000}, 3_MiB, 33_MiB}) {
    void* first = allocator.allocate(bytes, kStream);
    const int calls = device.reserve_calls();
    allocator.deallocate(first);
    EXPECT_EQ(allocator.allocate(bytes - 100, kStream), first) << bytes;
    EXPECT_EQ(device.reserve_calls(), calls) << bytes;
    allocator.deallocate(first);
  }
  EXPECT_EQ(allocator.stats().hits, 3U);
  EXPECT_EQ(allocator.stats().misses, 3U);
  EXPECT_EQ(allocator.stats().reserves, 3U);
}

TEST(CachingAllocator, TakesTheSmallestFreeBlockThatFits) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  // Holes of 64, 8, 16 and 32 KiB, kept apart by live blocks.
  std::vector<void*> holes;
  for (const std::size_t size : {64_KiB, 8_KiB, 16_KiB, 32_KiB}) {
    holes.push_back(allocator.allocate(size, kStream));
    allocator.allocate(512, kStream);
  }
  for (void* hole : holes)
    allocator.deallocate(hole);
  EXPECT_EQ(allocator.allocate(9_KiB, kStream), holes[2]);
  EXPECT_EQ(allocator.allocate(8_KiB, kStream), holes[1]);
  EXPECT_EQ(allocator.allocate(33_KiB, kStream), holes[0]);
  EXPECT_EQ(allocator.allocate(32_KiB, kStream), holes[3]);
}

TEST(CachingAllocator, TakesTheBestFitAmongBlocksOfNearlyTheSameSize) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  // Close enough for one bin of the free list, in an order that is neither rising nor falling.
  std::map<std::size_t, void*> holes;
  for (const std::size_t granules : {401, 400, 403, 402}) {
    holes[granules] = allocator.allocate(granules * 512, kStream);
    allocator.allocate(512, kStream);
  }
  for (const std::size_t granules : {402, 400, 403, 401})
    allocator.deallocate(holes[granules]);
  for (const std::size_t granules : {402, 400, 401, 403}) {
    EXPECT_EQ(allocator.allocate(granules * 512, kStream), holes[granules]) << granules;
  }
}

TEST(CachingAllocator, DoesNotSpendALargeBlockOnAMuchSmallerRequest) {
  FakeDevice device(256_MiB);
  CachingAllocator allocator(device);
  void* large = allocator.allocate(100_MiB, kStream);
  allocator.deallocate(large);
  allocator.allocate(1_KiB, kStream);
  allocator.allocate(5_MiB, kStream);
  EXPECT_EQ(allocator.allocate(100_MiB, kStream), large);
  EXPECT_EQ(allocator.stats().reserved, 100_MiB + 2_MiB + 20_MiB);
}

TEST(CachingAllocator, SplitsASegmentIntoNeighbouringBlocks) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* a = allocator.allocate(1_MiB, kStream);
  void* b = allocator.allocate(512_KiB, kStream);
  void* c = allocator.allocate(512_KiB, kStream);
  EXPECT_EQ(distance(a, b), 1024 * 1024);
  EXPECT_EQ(distance(b, c), 512 * 1024);
  EXPECT_EQ(device.segments(), 1U);
  EXPECT_EQ(allocator.stats().cached(), 0U);
}

TEST(CachingAllocator, MergesAFreedBlockWithBothNeighbours) {
  // Every order of freeing three neighbours must end in one block.
  for (const auto& order : std::vector<std::array<std::size_t, 3>>{
           {0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}) {
    FakeDevice device(64_MiB);
    CachingAllocator allocator(device);
    std::array<void*, 3> blocks{};
    for (void*& block : blocks)
      block = allocator.allocate(256_KiB, kStream);
    void* guard = allocator.allocate(1_MiB, kStream);
    for (const std::size_t i : order)
      allocator.deallocate(blocks[i]);
    EXPECT_EQ(allocator.allocate(768_KiB, kStream), blocks[0]);
    EXPECT_EQ(device.segments(), 1U);
    allocator.deallocate(guard);
  }
}

TEST(CachingAllocator, DoesNotMergeWithALiveNeighbour) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device, {.segment = 1024});
  void* a = allocator.allocate(512, kStream);
  void* b = allocator.allocate(512, kStream);
  allocator.deallocate(a);
  EXPECT_NE(allocator.allocate(1024, kStream), a);
  allocator.deallocate(b);
  EXPECT_EQ(allocator.allocate(1024, kStream), a);
}

TEST(CachingAllocator, KeepsTheBlocksOfStreamsApart) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* mine = allocator.allocate(1_KiB, kStream);
  allocator.deallocate(mine);
  void* theirs = allocator.allocate(1_KiB, kOther);
  EXPECT_NE(theirs, mine);
  EXPECT_EQ(device.segments(), 2U);
  EXPECT_EQ(allocator.allocate(1_KiB, kStream), mine);
}

TEST(CachingAllocator, HoldsABlockUntilTheOtherStreamHasFinished) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device, {.segment = 1024});
  void* shared = allocator.allocate(1024, kStream);
  allocator.use_on(shared, kOther);
  allocator.deallocate(shared);
  EXPECT_EQ(allocator.stats().pending, 1024U);
  EXPECT_EQ(allocator.stats().live, 0U);
  EXPECT_NE(allocator.allocate(1024, kStream), shared);
  device.finish_all();
  EXPECT_EQ(allocator.allocate(1024, kStream), shared);
  EXPECT_EQ(allocator.stats().pending, 0U);
}

TEST(CachingAllocator, WaitsForEveryStreamThatUsesTheBlock) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device, {.segment = 1024});
  void* shared = allocator.allocate(1024, kStream);
  for (const StreamId stream : {2U, 3U, 2U, 4U})
    allocator.use_on(shared, stream);
  allocator.deallocate(shared);
  EXPECT_EQ(device.record_calls(), 3);
  for (const StreamId stream : {4U, 2U, 3U}) {
    EXPECT_NE(allocator.allocate(1024, kStream), shared);
    device.finish(stream);
  }
  EXPECT_EQ(allocator.allocate(1024, kStream), shared);
}

TEST(CachingAllocator, RecordsTheEventWhenTheBlockIsFreedNotWhenItIsShared) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device, {.segment = 1024});
  void* shared = allocator.allocate(1024, kStream);
  allocator.use_on(shared, kOther);
  EXPECT_EQ(device.record_calls(), 0);
  device.finish_all();  // work of before the free says nothing about work queued later
  allocator.deallocate(shared);
  EXPECT_EQ(device.record_calls(), 1);
  EXPECT_NE(allocator.allocate(1024, kStream), shared);
}

TEST(CachingAllocator, FreesPendingBlocksInTheOrderOfTheirEvents) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device, {.segment = 1024});
  void* a = allocator.allocate(1024, kStream);
  void* b = allocator.allocate(1024, kStream);
  for (void* block : {a, b}) {
    allocator.use_on(block, kOther);
    allocator.deallocate(block);
  }
  device.finish_one(kOther);
  EXPECT_EQ(allocator.allocate(1024, kStream), a);
  void* c = allocator.allocate(1024, kStream);
  EXPECT_NE(c, b);
  device.finish_one(kOther);
  EXPECT_EQ(allocator.allocate(1024, kStream), b);
}

TEST(CachingAllocator, NeedsNoEventForUseOnTheBlocksOwnStream) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* block = allocator.allocate(1024, kStream);
  allocator.use_on(block, kStream);
  allocator.deallocate(block);
  EXPECT_EQ(device.record_calls(), 0);
  EXPECT_EQ(allocator.allocate(1024, kStream), block);
}

TEST(CachingAllocator, AsksForNoEventWhileTheCacheServes) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* shared = allocator.allocate(1024, kStream);
  allocator.use_on(shared, kOther);
  allocator.deallocate(shared);
  const int queries = device.query_calls();
  for (int i = 0; i < 100; ++i)
    allocator.deallocate(allocator.allocate(1024, kStream));
  EXPECT_EQ(device.query_calls(), queries);
}

TEST(CachingAllocator, KeepsABlockLiveWhenItsEventCannotBeRecorded) {
  FakeDevice device(64_MiB);
  for (const int k : {1, 2, 3}) {
    CachingAllocator allocator(device);
    void* shared = allocator.allocate(1024, kStream);
    for (const StreamId stream : {2U, 3U, 4U})
      allocator.use_on(shared, stream);
    device.fail_record(k);
    EXPECT_THROW(allocator.deallocate(shared), std::runtime_error);
    EXPECT_EQ(allocator.stats().live, 1024U);
    device.finish_all();
    allocator.deallocate(shared);
    EXPECT_EQ(allocator.stats().pending, 1024U);
    device.finish_all();
    EXPECT_EQ(allocator.trim(), 2_MiB);
    EXPECT_TRUE(device.unspent().empty());
  }
}

TEST(CachingAllocator, ReleasesOneCachedSegmentWhenTheDeviceIsFull) {
  FakeDevice device(100_MiB);
  CachingAllocator allocator(device);
  void* a = allocator.allocate(20_MiB, kOther);
  void* b = allocator.allocate(30_MiB, kOther);
  void* c = allocator.allocate(50_MiB, kOther);
  for (void* block : {a, b, c})
    allocator.deallocate(block);
  EXPECT_NE(allocator.allocate(24_MiB, kStream), nullptr);
  // The smallest that is large enough went: 20 and 50 MiB are still cached.
  EXPECT_EQ(allocator.stats().reserved, 20_MiB + 50_MiB + 24_MiB);
  EXPECT_EQ(allocator.stats().retries, 1U);
  EXPECT_EQ(allocator.stats().releases, 1U);
  EXPECT_EQ(allocator.allocate(50_MiB, kOther), c);
}

TEST(CachingAllocator, ReleasesAllCachedSegmentsWhenOneIsNotEnough) {
  FakeDevice device(100_MiB);
  CachingAllocator allocator(device);
  std::vector<void*> blocks;
  for (int i = 0; i < 5; ++i)
    blocks.push_back(allocator.allocate(20_MiB, kOther));
  for (void* block : blocks)
    allocator.deallocate(block);
  EXPECT_NE(allocator.allocate(90_MiB, kStream), nullptr);
  EXPECT_EQ(allocator.stats().reserved, 90_MiB);
  EXPECT_EQ(device.used(), 90_MiB);
}

TEST(CachingAllocator, ReservesJustEnoughWhenAWholeSegmentDoesNotFit) {
  FakeDevice device(6_MiB);
  CachingAllocator allocator(device);
  EXPECT_NE(allocator.allocate(5_MiB, kStream), nullptr);  // the medium class asks for 20 MiB first
  EXPECT_NE(allocator.allocate(1_MiB, kStream), nullptr);
  EXPECT_EQ(device.used(), 6_MiB);
}

TEST(CachingAllocator, BorrowsFromAnotherSizeClassBeforeItFails) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* a = allocator.allocate(32_MiB, kStream);
  void* b = allocator.allocate(32_MiB, kStream);
  allocator.deallocate(a);
  void* c =
      allocator.allocate(12_MiB, kStream);  // 20 MiB are left in a segment that cannot be released
  EXPECT_EQ(c, a);
  void* d = allocator.allocate(1_KiB, kStream);
  EXPECT_EQ(distance(c, d), 12 * 1024 * 1024);
  for (void* block : {b, c, d})
    allocator.deallocate(block);
  EXPECT_EQ(allocator.trim(), 64_MiB);
}

TEST(CachingAllocator, WaitsForPendingBlocksAsTheLastResort) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* shared = allocator.allocate(40_MiB, kStream);
  allocator.use_on(shared, kOther);
  allocator.deallocate(shared);
  EXPECT_EQ(allocator.allocate(40_MiB, kStream), shared);
  EXPECT_EQ(device.waits(), 1);
  allocator.use_on(shared, kOther);
  allocator.deallocate(shared);
  EXPECT_NE(allocator.allocate(60_MiB, kStream),
            nullptr);  // too large for the block: its segment goes
  EXPECT_EQ(device.waits(), 2);
  EXPECT_EQ(device.used(), 60_MiB);
}

TEST(CachingAllocator, ThrowsWithABreakdownWhenMemoryHasRunOut) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  const auto allocate_in = [&](std::string_view name, std::size_t bytes,
                               Direction direction = Direction::forward) {
    const ProfileScope scope(name, direction);
    return allocator.allocate(bytes, kStream);
  };
  allocate_in("blocks.0.mlp", 24_MiB);
  allocate_in("blocks.1.mlp", 16_MiB, Direction::backward);
  allocator.deallocate(allocate_in("head", 16_MiB));
  allocate_in("head", 12_MiB);
  try {
    allocate_in("blocks.2.mlp", 30_MiB);
    FAIL() << "expected OutOfMemory";
  } catch (const OutOfMemory& error) {
    EXPECT_THAT(
        error.what(),
        AllOf(HasSubstr("out of memory on fake:0: asked 30.0 MiB for blocks.2.mlp; "),
              HasSubstr("64.0 MiB total, 8.00 MiB free, 52.0 MiB live"),
              HasSubstr("4.00 MiB cached in 1 split segments; largest free block 4.00 MiB"),
              HasSubstr("live by category: backward 16.0 MiB, blocks 24.0 MiB, head 12.0 MiB; "),
              HasSubstr("largest holders: blocks.0.mlp 24.0 MiB, blocks.1.mlp backward 16.0 MiB, "
                        "head 12.0 MiB")))
        << error.what();
    EXPECT_EQ(error.requested, 30_MiB);
    EXPECT_EQ(error.stats.live, 52_MiB);
    EXPECT_EQ(error.stats.failures, 1U);
  }
}

TEST(CachingAllocator, WorksOnAfterAFailure) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* a = allocator.allocate(40_MiB, kStream);
  EXPECT_THROW(allocator.allocate(40_MiB, kStream), OutOfMemory);
  EXPECT_EQ(allocator.stats().live, 40_MiB);
  allocator.deallocate(a);
  EXPECT_EQ(allocator.allocate(40_MiB, kStream), a);
}

TEST(CachingAllocator, FailsForASizeBeyondAnyMemory) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  for (const std::size_t bytes : {~std::size_t{0}, ~std::size_t{0} / 2, ~std::size_t{0} - 511}) {
    EXPECT_THROW(allocator.allocate(bytes, kStream), OutOfMemory);
  }
  EXPECT_EQ(device.used(), 0U);
}

TEST(CachingAllocator, TrimReleasesFreeSegmentsAndKeepsSplitOnes) {
  FakeDevice device(256_MiB);
  CachingAllocator allocator(device);
  void* a = allocator.allocate(1_KiB, kStream);
  void* b = allocator.allocate(1_KiB, kStream);
  void* large = allocator.allocate(30_MiB, kStream);
  allocator.deallocate(large);
  allocator.deallocate(a);
  EXPECT_EQ(split_segments(allocator), 1U);
  EXPECT_EQ(allocator.trim(), 30_MiB);
  EXPECT_EQ(allocator.stats().reserved, 2_MiB);
  allocator.deallocate(b);
  EXPECT_EQ(allocator.trim(), 2_MiB);
  EXPECT_EQ(device.used(), 0U);
  EXPECT_EQ(allocator.trim(), 0U);
}

TEST(CachingAllocator, TrimKeepsPendingBlocks) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* shared = allocator.allocate(1_KiB, kStream);
  allocator.use_on(shared, kOther);
  allocator.deallocate(shared);
  EXPECT_EQ(allocator.trim(), 0U);
  device.finish_all();
  EXPECT_EQ(allocator.trim(), 2_MiB);
}

TEST(CachingAllocator, RemembersPeaksUntilTheyAreReset) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* a = allocator.allocate(12_MiB, kStream);
  void* b = allocator.allocate(14_MiB, kStream);
  allocator.deallocate(a);
  allocator.trim();
  EXPECT_EQ(allocator.stats().peak_live, 26_MiB);
  EXPECT_EQ(allocator.stats().peak_reserved, 26_MiB);
  allocator.reset_peaks();
  EXPECT_EQ(allocator.stats().peak_live, 14_MiB);
  EXPECT_EQ(allocator.stats().peak_reserved, 14_MiB);
  allocator.deallocate(b);
  EXPECT_EQ(allocator.stats().peak_live, 14_MiB);
}

TEST(CachingAllocator, ThrowsForAPointerThatIsNotLive) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* block = allocator.allocate(4_KiB, kStream);
  EXPECT_THROW(allocator.deallocate(static_cast<char*>(block) + 512), Error);
  EXPECT_THROW(allocator.use_on(static_cast<char*>(block) + 512, kOther), Error);
  allocator.deallocate(block);
  EXPECT_THROW(allocator.use_on(block, kOther), Error);
  try {
    allocator.deallocate(block);
    FAIL() << "expected Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("deallocate: 0x"), HasSubstr("is not a live block of fake:0")));
  }
  EXPECT_EQ(allocator.stats().live, 0U);
}

TEST(CachingAllocator, ThrowsForASecondFreeOfAPendingBlock) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* shared = allocator.allocate(4_KiB, kStream);
  allocator.use_on(shared, kOther);
  allocator.deallocate(shared);
  EXPECT_THROW(allocator.deallocate(shared), Error);
  EXPECT_EQ(allocator.stats().pending, 4_KiB);
}

TEST(CachingAllocator, NamesTheHoldersOfLiveMemoryLargestFirst) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  void* freed = allocator.allocate(8_MiB, kStream);
  allocator.allocate(1_KiB, kStream);
  {
    const ProfileScope scope("embedding");
    allocator.allocate(3_KiB, kStream);
    allocator.allocate(2_KiB, kStream);
  }
  allocator.deallocate(freed);
  const std::vector<MemoryHolder> holders = allocator.holders();
  ASSERT_EQ(holders.size(), 2U);
  EXPECT_EQ(holders[0].scope, "embedding");
  EXPECT_EQ(holders[0].bytes, 5_KiB);
  EXPECT_EQ(holders[0].blocks, 2U);
  EXPECT_EQ(holders[1].scope, "");
  EXPECT_EQ(holders[1].bytes, 1_KiB);
}

TEST(CachingAllocator, HoldsForwardAndBackwardOfALayerApart) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  for (const Direction direction : {Direction::forward, Direction::backward}) {
    const ProfileScope scope("blocks.0.mlp", direction);
    allocator.allocate(direction == Direction::forward ? 1_KiB : 2_KiB, kStream);
  }
  const std::vector<MemoryHolder> holders = allocator.holders();
  ASSERT_EQ(holders.size(), 2U);
  EXPECT_EQ(holders[0].direction, Direction::backward);
  EXPECT_EQ(holders[0].bytes, 2_KiB);
  EXPECT_EQ(holders[1].direction, Direction::forward);
  EXPECT_EQ(memory_category(holders[0].scope, holders[0].direction), "backward");
  EXPECT_EQ(memory_category(holders[1].scope, holders[1].direction), "blocks");
  EXPECT_EQ(memory_category("head", Direction::forward), "head");
  EXPECT_EQ(memory_category("", Direction::forward), "unknown");
}

TEST(CachingAllocator, RecordsWhenASharedBlockIsFreeAgain) {
  using Action = MemoryEvent::Action;
  FakeDevice device(20_MiB);
  CachingAllocator allocator(device);
  void* block = allocator.allocate(1_KiB, kStream);
  allocator.record_history(true);
  allocator.use_on(block, kOther);
  allocator.deallocate(block);
  device.finish_all();
  allocator.trim();
  std::vector<Action> actions;
  for (const MemoryEvent& event : allocator.history())
    actions.push_back(event.action);
  EXPECT_EQ(actions,
            (std::vector{Action::free_requested, Action::free_completed, Action::release}));
}

TEST(CachingAllocator, RecordsItsHistoryOnlyWhileAsked) {
  FakeDevice device(20_MiB);
  CachingAllocator allocator(device);
  allocator.deallocate(allocator.allocate(1_KiB, kStream));
  EXPECT_TRUE(allocator.history().empty());
  allocator.trim();

  allocator.record_history(true);
  void* block = nullptr;
  {
    const ProfileScope scope("head", Direction::backward);
    block = allocator.allocate(1000, kOther);
  }
  EXPECT_THROW(allocator.allocate(19_MiB, kStream), OutOfMemory);
  allocator.deallocate(block);
  allocator.trim();
  allocator.record_history(false);
  allocator.allocate(1_KiB, kStream);

  const std::vector<MemoryEvent> history = allocator.history();
  ASSERT_EQ(history.size(), 5U);
  EXPECT_EQ(history[0].action, Action::reserve);
  EXPECT_EQ(history[0].bytes, 2_MiB);
  EXPECT_EQ(history[1].action, Action::alloc);
  EXPECT_EQ(history[1].address, block);
  EXPECT_EQ(history[1].bytes, 1024U);
  EXPECT_EQ(history[1].stream, kOther);
  EXPECT_EQ(history[1].scope, "head");
  EXPECT_EQ(history[1].direction, Direction::backward);
  EXPECT_EQ(history[2].action, Action::out_of_memory);
  EXPECT_EQ(history[2].bytes, 19_MiB);
  EXPECT_EQ(history[3].action, Action::free);
  EXPECT_EQ(history[3].scope, "head");
  EXPECT_EQ(history[4].action, Action::release);
  for (std::size_t i = 1; i < history.size(); ++i) {
    EXPECT_GE(history[i].time_ns, history[i - 1].time_ns);
  }
}

TEST(CachingAllocator, AsksTheDeviceForNothingInARepeatedStep) {
  FakeDevice device(1024_MiB);
  CachingAllocator allocator(device);
  const auto step = [&] {
    std::vector<void*> saved;
    for (std::size_t layer = 1; layer <= 12; ++layer) {
      saved.push_back(allocator.allocate(layer * 700_KiB, kStream));
      allocator.deallocate(allocator.allocate(3_MiB, kStream));
      saved.push_back(allocator.allocate(1_KiB, kStream));
    }
    void* logits = allocator.allocate(200_MiB, kStream);
    for (; !saved.empty(); saved.pop_back())
      allocator.deallocate(saved.back());
    allocator.deallocate(logits);
  };
  step();
  const int calls = device.reserve_calls();
  for (int i = 0; i < 10; ++i)
    step();
  EXPECT_EQ(device.reserve_calls(), calls);
}

}  // namespace
}  // namespace lamina
