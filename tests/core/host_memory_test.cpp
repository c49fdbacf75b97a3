// SPDX-License-Identifier: MIT
// Host memory under the allocator of the CPU, and LimitingSource on top of it.
#include "core/host_memory.h"

#include "core/caching_allocator.h"
#include "core/error.h"
#include "tests/support/fake_device.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace lamina {
namespace {

using testing::LimitingSource;
using testing::operator""_KiB;
using testing::operator""_MiB;

TEST(HostMemory, GivesAlignedMemoryThatCanBeWritten) {
  CachingAllocator allocator(host_memory());
  for (const std::size_t bytes : {std::size_t{1}, 5_KiB, 3_MiB, 40_MiB}) {
    void* block = allocator.allocate(bytes, 0);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 512, 0U);
    std::memset(block, 0x5a, bytes);
    EXPECT_EQ(static_cast<unsigned char*>(block)[bytes - 1], 0x5a);
    allocator.deallocate(block);
  }
}

TEST(HostMemory, AlignsLargeSegmentsForHugePages) {
  void* memory = host_memory().reserve(6_MiB);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 2_MiB, 0U);
  host_memory().release(memory, 6_MiB);
}

TEST(HostMemory, ReusesABlockAtOnceAfterUseOnAnotherStream) {
  CachingAllocator allocator(host_memory());
  void* block = allocator.allocate(1_KiB, 0);
  allocator.use_on(block, StreamId{2});
  allocator.deallocate(block);
  EXPECT_EQ(allocator.allocate(1_KiB, 0), block);
  allocator.deallocate(block);
}

TEST(HostMemory, RefusesMoreThanTheMachineHas) {
  CachingAllocator allocator(host_memory());
  EXPECT_GT(host_memory().info().total, 64_MiB);
  EXPECT_THROW(allocator.allocate(host_memory().info().total + 1, 0), OutOfMemory);
}

#if defined(__SANITIZE_ADDRESS__)
TEST(HostMemory, IsPoisonedWhereNoTensorOwnsIt) {
  CachingAllocator allocator(host_memory());
  auto* block = static_cast<char*>(allocator.allocate(1000, 0));
  EXPECT_EQ(__asan_region_is_poisoned(block, 1000), nullptr);
  EXPECT_TRUE(__asan_address_is_poisoned(block + 1000));
  allocator.deallocate(block);
  EXPECT_TRUE(__asan_address_is_poisoned(block));
}
#endif

TEST(LimitingSource, RunsOutAtItsLimit) {
  LimitingSource source(host_memory(), 8_MiB);
  CachingAllocator allocator(source);
  void* block = allocator.allocate(6_MiB, 0);
  EXPECT_THROW(allocator.allocate(6_MiB, 0), OutOfMemory);
  allocator.deallocate(block);
  EXPECT_EQ(allocator.trim(), 6_MiB);
  EXPECT_EQ(source.info().free, 8_MiB);
}

}  // namespace
}  // namespace lamina
