// SPDX-License-Identifier: MIT
// CachingAllocator as the private pool of a captured graph: a second allocator on the same device,
// and reserving switched off.
#include "core/caching_allocator.h"
#include "core/error.h"
#include "core/profile_scope.h"
#include "tests/support/fake_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace lamina {
namespace {

using testing::FakeDevice;
using testing::kOther;
using testing::kStream;
using testing::operator""_KiB;
using testing::operator""_MiB;
using ::testing::HasSubstr;

TEST(CachingAllocatorPool, NamesTheScopeThatNeedsNewMemoryWhileReservingIsOff) {
  FakeDevice device(256_MiB);
  CachingAllocator pool(device);
  pool.deallocate(pool.allocate(30_MiB, kStream));
  pool.set_reserve_allowed(false);
  const int calls = device.reserve_calls();
  void* warm = pool.allocate(30_MiB, kStream);
  EXPECT_NE(warm, nullptr);
  const ProfileScope scope("blocks.3.attention");
  try {
    pool.allocate(30_MiB, kStream);
    FAIL() << "expected Error";
  } catch (const OutOfMemory&) {
    FAIL() << "the device has memory left";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("blocks.3.attention: needs 30.0 MiB of new memory on fake:0"));
  }
  EXPECT_EQ(device.reserve_calls(), calls);
  pool.set_reserve_allowed(true);
  EXPECT_NE(pool.allocate(30_MiB, kStream), nullptr);
}

TEST(CachingAllocatorPool, DoesNotTouchTheDeviceWhileReservingIsOff) {
  FakeDevice device(256_MiB);
  CachingAllocator pool(device, {.segment = 1024});
  void* early = pool.allocate(1024, kStream);
  void* late = pool.allocate(1024, kStream);
  pool.use_on(early, kOther);
  pool.use_on(late, kOther);
  pool.deallocate(early);
  pool.deallocate(pool.allocate(1024, kOther));  // a segment that trim() could release
  device.finish_all();
  const int queries = device.query_calls();

  pool.set_reserve_allowed(false);
  pool.deallocate(late);
  EXPECT_THROW(pool.allocate(1024, kStream), Error);
  EXPECT_EQ(pool.trim(), 0U);
  EXPECT_EQ(device.segments(), 3U);
  EXPECT_EQ(device.query_calls(), queries);
  EXPECT_EQ(device.record_calls(), 1);
  EXPECT_EQ(pool.stats().pending, 2048U);

  pool.set_reserve_allowed(true);
  EXPECT_EQ(device.record_calls(), 2);
  EXPECT_EQ(pool.allocate(1024, kStream), early);
  EXPECT_NE(pool.allocate(1024, kStream), late);
  device.finish_all();
  EXPECT_EQ(pool.allocate(1024, kStream), late);
}

TEST(CachingAllocatorPool, KeepsABlockPendingWhenItsEventsCannotBeRecordedAfterACapture) {
  FakeDevice device(256_MiB);
  CachingAllocator pool(device, {.segment = 1024});
  void* shared = pool.allocate(1024, kStream);
  for (const StreamId stream : {2U, 3U})
    pool.use_on(shared, stream);
  pool.set_reserve_allowed(false);
  pool.deallocate(shared);
  device.fail_record(2);
  EXPECT_THROW(pool.set_reserve_allowed(true), std::runtime_error);
  device.finish_all();
  EXPECT_NE(pool.allocate(1024, kStream), shared);
  pool.set_reserve_allowed(true);
  EXPECT_NE(pool.allocate(1024, kStream), shared);
  device.finish_all();
  EXPECT_EQ(pool.allocate(1024, kStream), shared);
}

TEST(CachingAllocatorPool, ServesFromAnyCachedBlockWhileReservingIsOff) {
  FakeDevice device(256_MiB);
  CachingAllocator pool(device);
  pool.deallocate(pool.allocate(30_MiB, kStream));
  pool.set_reserve_allowed(false);
  EXPECT_NE(pool.allocate(1_KiB, kStream), nullptr);
}

TEST(CachingAllocatorPool, SharesADeviceWithAPrivatePool) {
  FakeDevice device(64_MiB);
  CachingAllocator common(device);
  void* mine = common.allocate(20_MiB, kStream);
  {
    CachingAllocator pool(device);
    void* theirs = pool.allocate(20_MiB, kStream);
    EXPECT_THROW(common.deallocate(theirs), Error);
    pool.use_on(theirs, kOther);
    pool.deallocate(theirs);
    EXPECT_EQ(device.used(), 40_MiB);
  }
  EXPECT_EQ(device.used(), 20_MiB);
  EXPECT_TRUE(device.unspent().empty());
  common.deallocate(mine);
}

}  // namespace
}  // namespace lamina
