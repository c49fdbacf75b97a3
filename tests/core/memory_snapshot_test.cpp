// SPDX-License-Identifier: MIT
// Arithmetic of memory histories on a fake device; the file itself is read back by
// tests/examples/profile_files_test.py.
#include "core/memory_snapshot.h"

#include "core/trace.h"
#include "tests/support/fake_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lamina {
namespace {

using testing::FakeDevice;
using namespace testing;  // NOLINT(google-build-using-namespace): the literals _KiB and _MiB
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

void* allocate_in(CachingAllocator& allocator, std::string_view layer, std::size_t bytes,
                  Direction direction = Direction::forward) {
  const ProfileScope scope(layer, direction);
  return allocator.allocate(bytes, kStream);
}

TEST(MemoryOverTime, EndsWithWhatIsThereAndGoesBackToTheStart) {
  FakeDevice device(64_MiB);
  CachingAllocator first(device), second(device);
  allocate_in(first, "before", 4_KiB);
  first.record_history(true);
  second.record_history(true);
  void* a = allocate_in(first, "a", 1_KiB);
  void* b = allocate_in(second, "b", 2_KiB);
  first.deallocate(a);
  void* shared = allocate_in(first, "c", 8_KiB);
  first.use_on(shared, kOther);
  first.deallocate(shared);  // free_requested: no owner has it any more
  device.finish_all();
  first.trim();
  second.deallocate(b);
  second.trim();  // gives the segment back
  const std::vector<MemoryHistory> histories = {MemoryHistory(first), MemoryHistory(second)};
  const std::vector<MemorySample> samples = memory_over_time(histories);
  std::vector<std::size_t> live, reserved;
  for (const MemorySample& sample : samples) {
    live.push_back(sample.live);
    reserved.push_back(sample.reserved);
  }
  // alloc, reserve of the second's segment, alloc, free, alloc, free_requested, free_completed,
  // free, release
  EXPECT_EQ(live, (std::vector<std::size_t>{5_KiB, 5_KiB, 7_KiB, 6_KiB, 14_KiB, 6_KiB, 6_KiB, 4_KiB,
                                            4_KiB}));
  EXPECT_EQ(reserved, (std::vector<std::size_t>{2_MiB, 4_MiB, 4_MiB, 4_MiB, 4_MiB, 4_MiB, 4_MiB,
                                                4_MiB, 2_MiB}));
  EXPECT_EQ(samples.back().live, first.stats().live + second.stats().live);
}

TEST(HoldersAtPeak, AreThoseOfTheMomentWithMostMemory) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  allocate_in(allocator, "weights", 4_KiB);  // before the history begins, and lives on
  void* old = allocate_in(allocator, "old", 3_KiB);
  allocator.record_history(true);
  allocator.deallocate(old);
  void* a = allocate_in(allocator, "blocks.0", 16_KiB);
  void* b = allocate_in(allocator, "blocks.0", 8_KiB, Direction::backward);
  allocator.deallocate(a);
  allocator.deallocate(b);
  allocate_in(allocator, "later", 1_KiB);
  const std::vector<MemoryHistory> histories = {MemoryHistory(allocator)};
  const std::vector<MemoryHolder> holders = holders_at_peak(histories);
  ASSERT_EQ(holders.size(), 3U);
  EXPECT_EQ(holders[0].scope, "blocks.0");
  EXPECT_EQ(holders[0].direction, Direction::forward);
  EXPECT_EQ(holders[0].bytes, 16_KiB);
  EXPECT_EQ(holders[1].direction, Direction::backward);
  EXPECT_EQ(holders[1].bytes, 8_KiB);
  EXPECT_EQ(holders[2].scope, "weights");
  EXPECT_EQ(holders[2].blocks, 1U);
  const std::string table = memory_table(histories, 2);
  EXPECT_THAT(table,
              AllOf(HasSubstr("(all)                            weights"),
                    HasSubstr("(all)                            backward"), HasSubstr("(1 more)"),
                    HasSubstr("peak 28.0 KiB; now 2.00 MiB"), Not(HasSubstr("later"))));
}

TEST(HoldersAtPeak, AreTheLiveBlocksWithoutAHistory) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  allocate_in(allocator, "weights", 4_KiB);
  const std::vector<MemoryHistory> histories = {MemoryHistory(allocator)};
  ASSERT_EQ(holders_at_peak(histories).size(), 1U);
  EXPECT_TRUE(memory_over_time(histories).empty());
}

TEST(MemoryTable, SaysHowScatteredTheCacheIs) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  EXPECT_THAT(memory_table(std::vector{MemoryHistory(allocator)}), HasSubstr("fragmentation 0%"));
  // A hole of 512 KiB in a segment of 2 MiB with 1 MiB at its end: a third of 1.5 MiB.
  void* hole = allocator.allocate(512_KiB, kStream);
  allocator.allocate(512_KiB, kStream);
  allocator.deallocate(hole);
  EXPECT_THAT(memory_table(std::vector{MemoryHistory(allocator)}),
              HasSubstr("2.00 MiB reserved, 1.50 MiB of it cached, the largest block of that 1.00 "
                        "MiB (fragmentation 33%)"));
}

TEST(MemorySnapshot, NamesOpAndLayerOfEachAllocation) {
  FakeDevice device(64_MiB);
  CachingAllocator allocator(device);
  allocator.record_history(true);
  allocate_in(allocator, "norm", 1_KiB, Direction::backward);
  const std::int64_t then = allocator.history().back().time_ns;
  allocate_in(allocator, "mlp", 1_KiB);
  const std::vector<MemoryHistory> histories = {MemoryHistory(allocator)};
  const std::vector<TraceKernel> launches = {
      {.op = "too_early", .layer = "norm", .direction = Direction::backward, .start_ns = then - 1},
      {.op = "layer_norm_backward",
       .layer = "norm",
       .direction = Direction::backward,
       .start_ns = then},
      {.op = "elsewhere", .layer = "embed", .start_ns = histories[0].events.back().time_ns}};
  const std::string pickle = memory_snapshot(histories, launches, 0);
  EXPECT_THAT(pickle, AllOf(HasSubstr("layer_norm_backward @ norm"), Not(HasSubstr("too_early")),
                            Not(HasSubstr("elsewhere"))));
}

TEST(MemorySnapshot, IsAPickleOfProtocol2) {
  const std::string pickle = memory_snapshot({}, {}, 0);
  EXPECT_EQ(pickle.substr(0, 4), std::string("\x80\x02}("));
  EXPECT_EQ(pickle.substr(pickle.size() - 2), "u.");
}

}  // namespace
}  // namespace lamina
