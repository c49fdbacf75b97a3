// SPDX-License-Identifier: MIT
#include "core/cuda/check.h"
#include "core/cuda/device_guard.h"
#include "core/device.h"
#include "cuda_kernels/cluster_count.h"

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <utility>

namespace lamina::kernels {
namespace {

__global__ void occupy() {}

int ask(int blocks, int device) {
  const DeviceInfo& gpu = device_info({DeviceKind::cuda, device});
  constexpr int kFirstWithClusters = 90;
  if (gpu.compute_capability < kFirstWithClusters) return 0;
  const cuda::DeviceGuard guard(device);
  // Compiled for an older architecture, the kernels do not know their cluster.
  cudaFuncAttributes attributes{};
  LAMINA_CUDA_CHECK(cudaFuncGetAttributes(&attributes, occupy));
  if (attributes.ptxVersion < kFirstWithClusters) return 0;
  // More than half of a multiprocessor's shared memory: one block each.
  const auto shared_bytes = static_cast<int>(gpu.shared_per_block);
  LAMINA_CUDA_CHECK(
      cudaFuncSetAttribute(occupy, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(blocks);
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(gpu.multiprocessors / blocks * blocks));
  config.blockDim = dim3(32);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.attrs = &cluster;
  config.numAttrs = 1;
  int count = 0;
  LAMINA_CUDA_CHECK(cudaOccupancyMaxActiveClusters(&count, occupy, &config));
  return count;
}

}  // namespace

int clusters_at_once(int blocks, int device) {
  static std::mutex mutex;
  static std::map<std::pair<int, int>, int> counts;
  const std::lock_guard lock(mutex);
  const auto known = counts.find({blocks, device});
  if (known != counts.end()) return known->second;
  return counts[{blocks, device}] = ask(blocks, device);
}

}  // namespace lamina::kernels
