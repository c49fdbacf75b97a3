// SPDX-License-Identifier: MIT
#include "core/cuda/check.h"
#include "core/cuda/device_guard.h"
#include "core/cuda/runtime.h"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace lamina::cuda {

namespace {

struct EventPool {
  std::mutex mutex;
  std::vector<cudaEvent_t> free;
};

EventPool& event_pool() {
  static auto& pool = *new EventPool;  // outlives every static that may still return events
  return pool;
}

}  // namespace

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // no driver or no device: not an error of ours, and not to be seen later
    return 0;
  }
  return count;
}

DeviceInfo query(int device) {
  cudaDeviceProp properties{};
  LAMINA_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  return {.name = properties.name,
          .compute_capability = properties.major * 10 + properties.minor,
          .multiprocessors = properties.multiProcessorCount,
          .total_memory = properties.totalGlobalMem,
          .shared_per_block = properties.sharedMemPerBlockOptin};
}

CudaStream default_stream(int device) {
  static std::mutex mutex;
  static std::map<int, cudaStream_t> streams;
  const std::lock_guard lock(mutex);
  auto [it, is_new] = streams.try_emplace(device, nullptr);
  if (is_new) {
    const DeviceGuard guard(device);
    LAMINA_CUDA_CHECK(cudaStreamCreateWithFlags(&it->second, cudaStreamNonBlocking));
  }
  return {it->second, device};
}

void synchronize(CudaStream stream) {
  LAMINA_CUDA_CHECK(cudaStreamSynchronize(stream.handle));
}

void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
          CudaStream stream) {
  if (bytes == 0) return;
  const cudaMemcpyKind kind =
      to_device.is_cuda()
          ? (from_device.is_cuda() ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
          : cudaMemcpyDeviceToHost;
  LAMINA_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, stream.handle));
  if (!to_device.is_cuda()) synchronize(stream);
}

void check_launch(CudaStream stream, std::string_view kernel, bool wait) {
  cudaError_t status = cudaGetLastError();
  if (status == cudaSuccess && wait) status = cudaStreamSynchronize(stream.handle);
  if (status != cudaSuccess) {
    throw CudaError(cat(kernel, ": the launch gave ", cudaGetErrorName(status), " (",
                        cudaGetErrorString(status), "); run with LAMINA_SYNC=1 to find the kernel"),
                    static_cast<int>(status));
  }
}

void* record_time(CudaStream stream) {
  EventPool& pool = event_pool();
  cudaEvent_t event = nullptr;
  {
    const std::lock_guard lock(pool.mutex);
    if (!pool.free.empty()) {
      event = pool.free.back();
      pool.free.pop_back();
    }
  }
  if (event == nullptr) LAMINA_CUDA_CHECK(cudaEventCreate(&event));
  LAMINA_CUDA_CHECK(cudaEventRecord(event, stream.handle));
  return event;
}

double elapsed_ms(void* start, void* stop) {
  auto* first = static_cast<cudaEvent_t>(start);
  auto* last = static_cast<cudaEvent_t>(stop);
  float ms = 0.0F;
  LAMINA_CUDA_CHECK(cudaEventSynchronize(last));
  LAMINA_CUDA_CHECK(cudaEventElapsedTime(&ms, first, last));
  EventPool& pool = event_pool();
  const std::lock_guard lock(pool.mutex);
  pool.free.push_back(first);
  pool.free.push_back(last);
  return static_cast<double>(ms);
}

void push_range(std::string_view name) {
  nvtxRangePushA(std::string(name).c_str());
}

void pop_range() {
  nvtxRangePop();
}

}  // namespace lamina::cuda
