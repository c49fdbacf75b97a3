// SPDX-License-Identifier: MIT
// CachingAllocator from four threads at once; made for the thread sanitizer. On host memory every
// thread fills its blocks with a pattern, so that a block with two owners is a data race and a
// wrong pattern.
#include "core/caching_allocator.h"
#include "core/error.h"
#include "core/host_memory.h"
#include "tests/support/fake_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace lamina {
namespace {

using testing::FakeDevice;
using testing::LimitingSource;
using testing::operator""_MiB;

constexpr std::uint64_t kThreads = 4;
constexpr int kOperationsPerThread = 250'000;
constexpr std::size_t kLivePerThread = 40;

template <class Body>
void in_threads(Body body) {
  std::vector<std::thread> threads;
  for (std::uint64_t id = 1; id <= kThreads; ++id)
    threads.emplace_back(body, id);
  for (std::thread& thread : threads)
    thread.join();
}

struct Owned {
  unsigned char* data;
  std::size_t bytes;
  unsigned char pattern;
};

/// First, last and some bytes between, so that large blocks cost no more than small ones.
template <class Visit>
void for_some_bytes(const Owned& owned, Visit visit) {
  const std::size_t step = std::max<std::size_t>(1, owned.bytes / 16);
  for (std::size_t i = 0; i < owned.bytes; i += step)
    visit(owned.data[i]);
  visit(owned.data[owned.bytes - 1]);
}

TEST(CachingAllocatorThreads, GiveEveryBlockToOneOwner) {
  LimitingSource source(host_memory(), 64_MiB);
  CachingAllocator allocator(source);
  std::atomic<int> wrong = 0;
  std::atomic<int> failures = 0;
  std::mutex mutex;
  std::vector<Owned> handed_over;  // blocks that another thread frees

  const auto release = [&](const Owned& owned) {
    for_some_bytes(owned, [&](unsigned char byte) { wrong += byte != owned.pattern ? 1 : 0; });
    allocator.deallocate(owned.data);
  };
  in_threads([&](std::uint64_t id) {
    std::mt19937_64 random(id);
    std::vector<Owned> mine;
    for (int i = 0; i < kOperationsPerThread; ++i) {
      const std::uint64_t choice = random() % 16;
      if (choice < 8 && mine.size() < kLivePerThread) {
        const std::size_t top = std::size_t{1} << random() % 21;
        const Owned owned{.data = nullptr,
                          .bytes = top + random() % top,
                          .pattern = static_cast<unsigned char>(i)};
        try {
          mine.push_back(owned);
          mine.back().data =
              static_cast<unsigned char*>(allocator.allocate(owned.bytes, random() % 2));
          for_some_bytes(mine.back(), [&](unsigned char& byte) { byte = owned.pattern; });
        } catch (const OutOfMemory&) {
          mine.pop_back();
          ++failures;
        }
      } else if (choice < 14 && !mine.empty()) {
        std::swap(mine[random() % mine.size()], mine.back());
        release(mine.back());
        mine.pop_back();
      } else if (choice == 14 && !mine.empty()) {
        const std::lock_guard lock(mutex);
        handed_over.push_back(mine.back());
        mine.pop_back();
      } else {
        Owned owned{};
        {
          const std::lock_guard lock(mutex);
          if (handed_over.empty()) continue;
          owned = handed_over.back();
          handed_over.pop_back();
        }
        release(owned);
      }
      if (random() % 4096 == 0) allocator.trim();
    }
    for (const Owned& owned : mine)
      release(owned);
  });
  for (const Owned& owned : handed_over)
    release(owned);

  EXPECT_EQ(wrong, 0);
  EXPECT_GT(failures, 0) << "memory never ran out: the run tests too little";
  EXPECT_EQ(allocator.stats().live, 0U);
  allocator.trim();
  EXPECT_EQ(source.info().free, 64_MiB);
}

TEST(CachingAllocatorThreads, ShareBlocksBetweenStreamsAndLoseNothing) {
  FakeDevice device(512_MiB);
  CachingAllocator allocator(device);
  in_threads([&](std::uint64_t id) {
    std::mt19937_64 random(id);
    std::vector<void*> mine;
    for (int i = 0; i < kOperationsPerThread / 5; ++i) {
      if (mine.size() < kLivePerThread && random() % 2 == 0) {
        mine.push_back(allocator.allocate(1 + random() % 1_MiB, id));
        if (random() % 4 == 0) allocator.use_on(mine.back(), 1 + random() % kThreads);
      } else if (!mine.empty()) {
        std::swap(mine[random() % mine.size()], mine.back());
        allocator.deallocate(mine.back());
        mine.pop_back();
      }
      if (random() % 64 == 0) device.finish(1 + random() % kThreads);
      if (random() % 1024 == 0) (void)allocator.snapshot();
      if (random() % 1024 == 0) (void)allocator.holders();
    }
    for (void* block : mine)
      allocator.deallocate(block);
  });
  device.finish_all();
  allocator.trim();
  EXPECT_EQ(allocator.stats().live, 0U);
  EXPECT_EQ(allocator.stats().reserved, 0U);
  EXPECT_EQ(device.used(), 0U);
  EXPECT_TRUE(device.unspent().empty());
}

}  // namespace
}  // namespace lamina
