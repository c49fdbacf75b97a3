// SPDX-License-Identifier: MIT
// Storage: a block of device memory, given back to its allocator on the stream that allocated it
// when the last Tensor that refers to it dies.
#pragma once

#include "core/allocator.h"
#include "core/device.h"
#include "core/stream.h"

#include <cstddef>
#include <memory>

namespace lamina {

class CachingAllocator;

class Storage {
 public:
  /// Takes `bytes` from the current allocator of `device`. Throws OutOfMemory.
  Storage(std::size_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }

  std::size_t bytes() const { return bytes_; }

  Device device() const { return device_; }

  /// Declares use on a second stream: the block is not reused before that stream's work is done.
  void use_on(const Stream& stream);

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
  Allocator* allocator_ = nullptr;
};

/// The allocator that this thread's new tensors on `device` come from: the device's own, unless an
/// AllocatorScope is open. Throws DeviceError when the device does not exist.
Allocator& current_allocator(Device device);

/// The device's own allocator, whatever scopes are open. Throws DeviceError when the device does
/// not exist.
CachingAllocator& device_allocator(Device device);

/// Another allocator on the memory of `device`, for an AllocatorScope: private pools of graphs.
/// Throws DeviceError when the device does not exist.
std::unique_ptr<CachingAllocator> new_allocator(Device device);

/// Makes `allocator` current for `device` in this thread, until destruction. Scopes nest; the
/// innermost counts, for its device only.
class AllocatorScope {
 public:
  AllocatorScope(Device device, Allocator& allocator);
  ~AllocatorScope();
  AllocatorScope(const AllocatorScope&) = delete;
  AllocatorScope& operator=(const AllocatorScope&) = delete;

 private:
  Device device_;
  Allocator* previous_;
};

}  // namespace lamina
