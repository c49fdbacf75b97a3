// SPDX-License-Identifier: MIT
#include "core/storage.h"

#include "core/caching_allocator.h"
#include "core/host_memory.h"

#include <map>
#include <mutex>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

namespace {

MemorySource& memory_of(Device device) {
  expect_device(device);
  if (!device.is_cuda()) return host_memory();
#if LAMINA_WITH_CUDA
  return cuda::memory(device.index);
#else
  return host_memory();  // not reached
#endif
}

struct ScopedAllocator {
  Device device;
  Allocator* allocator = nullptr;
};

thread_local ScopedAllocator scoped_allocator;

}  // namespace

// Allocators live until the process ends: tensors with static storage may be freed after main().
CachingAllocator& device_allocator(Device device) {
  expect_device(device);
  if (!device.is_cuda()) {
    static auto& host = *new CachingAllocator(host_memory());
    return host;
  }
  static std::mutex mutex;
  static auto& allocators = *new std::map<int, std::unique_ptr<CachingAllocator>>;
  const std::lock_guard lock(mutex);
  auto& allocator = allocators[device.index];
  if (!allocator) allocator = std::make_unique<CachingAllocator>(memory_of(device));
  return *allocator;
}

Allocator& current_allocator(Device device) {
  const ScopedAllocator& scoped = scoped_allocator;
  if (scoped.allocator != nullptr && scoped.device == device) return *scoped.allocator;
  return device_allocator(device);
}

std::unique_ptr<CachingAllocator> new_allocator(Device device) {
  return std::make_unique<CachingAllocator>(memory_of(device));
}

AllocatorScope::AllocatorScope(Device device, Allocator& allocator)
    : device_(scoped_allocator.device), previous_(scoped_allocator.allocator) {
  scoped_allocator = {device, &allocator};
}

AllocatorScope::~AllocatorScope() {
  scoped_allocator = {device_, previous_};
}

Storage::Storage(std::size_t bytes, Device device)
    : bytes_(bytes), device_(device), allocator_(&current_allocator(device)) {
  data_ = allocator_->allocate(bytes, id_of(current_stream(device)));
}

Storage::~Storage() {
  allocator_->deallocate(data_);
}

void Storage::use_on(const Stream& stream) {
  allocator_->use_on(data_, id_of(stream));
}

}  // namespace lamina
