// SPDX-License-Identifier: MIT
// DeviceGuard: makes a CUDA device current for the calls of a scope, and puts the previous one
// back.
#pragma once

#include "core/cuda/check.h"

namespace lamina::cuda {

class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    LAMINA_CUDA_CHECK(cudaGetDevice(&previous_));
    if (previous_ != device) {
      LAMINA_CUDA_CHECK(cudaSetDevice(device));
      changed_ = true;
    }
  }

  ~DeviceGuard() {
    if (changed_) cudaSetDevice(previous_);
  }

  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

}  // namespace lamina::cuda
