// SPDX-License-Identifier: MIT
#include "core/cuda/device_guard.h"
#include "cuda_kernels/launch_kernel.cuh"

#include <map>
#include <mutex>
#include <utility>

namespace lamina::kernels {

bool can_wait(const void* kernel, int device) {
  constexpr int kFirstWithWait = 90;
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, bool> answers;
  const std::lock_guard lock(mutex);
  const auto known = answers.find({kernel, device});
  if (known != answers.end()) return known->second;
  const cuda::DeviceGuard guard(device);
  cudaFuncAttributes attributes{};
  LAMINA_CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
  const bool answer = attributes.ptxVersion >= kFirstWithWait;
  answers[{kernel, device}] = answer;
  return answer;
}

}  // namespace lamina::kernels
