// SPDX-License-Identifier: MIT
// Download: tensors to host memory that is kept for the next time, while the device goes on: the
// counterpart of Upload.
#pragma once

#include "core/device.h"
#include "core/tensor.h"

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace lamina {

class Download {
 public:
  /// For tensors on `device` of `bytes` bytes together. Room for more is made when it is needed;
  /// for CUDA it is page-locked, which takes time to make.
  explicit Download(Device device, std::size_t bytes = 0);

  /// Takes the tensors' elements as they are behind the work queued so far. On CUDA that is a copy
  /// on the device, and the host does not wait; where memory is too short for it, it waits for the
  /// copies to the host. Throws Error for a tensor on another device and for an empty handle.
  void begin(std::span<const Tensor> tensors);

  /// Waits for them in host memory, row by row; they last until the next begin(). May be called
  /// from another thread.
  std::vector<std::string_view> finish();

 private:
  void reserve(std::size_t bytes);

  Device device_;
  std::size_t bytes_ = 0;
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
  std::vector<std::string_view> copies_;  // in memory_
  Tensor staged_;                         // what is still on the device
  std::shared_ptr<void> ready_;           // the event behind which it is complete
};

}  // namespace lamina
