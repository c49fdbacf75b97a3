// SPDX-License-Identifier: MIT
// Upload: small host data to fixed device memory without making the host wait for the device.
#pragma once

#include "core/allocator.h"
#include "core/device.h"

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace lamina {

class Tensor;

class Upload {
 public:
  /// Room for `slots` uploads of up to `bytes` bytes that the device has not taken yet.
  Upload(Device device, std::size_t bytes, int slots = 4);
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  /// `write` fills the contiguous tensor's bytes in host memory, from where they are copied to it
  /// behind the work that is queued on its current stream. Waits only while all slots are full.
  /// Throws Error when the tensor is an empty handle, not contiguous, on another device or larger
  /// than a slot, and in a step that a StepGraph records.
  void operator()(const Tensor& to, const std::function<void(std::span<std::byte>)>& write);

 private:
  struct Slot {
    std::byte* data;
    Event copied = 0;  // 0: none
  };

  Device device_;
  std::size_t bytes_;
  std::vector<Slot> slots_;  // page-locked memory; empty on the CPU
  std::size_t next_ = 0;
};

}  // namespace lamina
