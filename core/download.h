// SPDX-License-Identifier: MIT
// Download: tensors to host memory that is kept for the next time: the counterpart of Upload.
#pragma once

#include "core/device.h"

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace lamina {

class Tensor;

class Download {
 public:
  /// For tensors on `device` of `bytes` bytes together. Room for more is made when it is needed;
  /// for CUDA it is page-locked, which takes time to make.
  explicit Download(Device device, std::size_t bytes = 0);

  /// Copies of the tensors' elements, row by row; they last until the next call. Waits for the
  /// device. Throws Error for a tensor on another device.
  std::vector<std::string_view> operator()(std::span<const Tensor> tensors);

 private:
  void reserve(std::size_t bytes);

  Device device_;
  std::size_t bytes_ = 0;
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
};

}  // namespace lamina
