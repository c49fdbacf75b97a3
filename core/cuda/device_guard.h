// SPDX-License-Identifier: MIT
// DeviceGuard: makes a CUDA device current for the calls of a scope, and puts the previous one
// back.
#pragma once

#include "core/cuda/runtime.h"

namespace lamina::cuda {

class DeviceGuard {
 public:
  explicit DeviceGuard(int device) : previous_(exchange_device(device)) {}

  ~DeviceGuard() {
    if (previous_ >= 0) restore_device(previous_);
  }

  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_;
};

}  // namespace lamina::cuda
