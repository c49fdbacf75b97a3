// SPDX-License-Identifier: MIT
#include "core/cuda/check.h"
#include "core/cuda/device_guard.h"
#include "core/cuda/runtime.h"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <vector>

namespace lamina::cuda {

namespace {

struct EventPool {
  std::mutex mutex;
  std::map<int, std::vector<cudaEvent_t>> free;  // by device
};

EventPool& event_pool() {
  static auto& pool = *new EventPool;  // outlives every static that may still return events
  return pool;
}

/// An event of the device; null when that has failed.
std::shared_ptr<void> new_event(int device) noexcept {
  EventPool& pool = event_pool();
  const std::lock_guard lock(pool.mutex);
  auto& free = pool.free[device];
  cudaEvent_t event = nullptr;
  if (!free.empty()) {
    event = free.back();
    free.pop_back();
  } else {
    int previous = 0;
    if (cudaGetDevice(&previous) != cudaSuccess || cudaSetDevice(device) != cudaSuccess) return {};
    const cudaError_t status = cudaEventCreate(&event);
    cudaSetDevice(previous);
    if (status != cudaSuccess) return {};
  }
  return {event, [device](void* spent) {
            EventPool& events = event_pool();
            const std::lock_guard back(events.mutex);
            events.free[device].push_back(static_cast<cudaEvent_t>(spent));
          }};
}

/// The device's stream among `streams`, made when there is none.
CudaStream stream_of_device(int device, std::map<int, cudaStream_t>& streams) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  auto it = streams.find(device);
  if (it == streams.end()) {
    const DeviceGuard guard(device);
    cudaStream_t stream = nullptr;
    LAMINA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    it = streams.emplace(device, stream).first;
  }
  return {it->second, device};
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

int exchange_device(int device) {
  int current = 0;
  LAMINA_CUDA_CHECK(cudaGetDevice(&current));
  if (current == device) return -1;
  LAMINA_CUDA_CHECK(cudaSetDevice(device));
  return current;
}

void restore_device(int device) noexcept {
  cudaSetDevice(device);
}

CudaStream default_stream(int device) {
  static std::map<int, cudaStream_t> streams;
  return stream_of_device(device, streams);
}

CudaStream transfer_stream(int device) {
  static std::map<int, cudaStream_t> streams;
  return stream_of_device(device, streams);
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
  if (status == cudaSuccess && wait && !is_capturing(stream))
    status = cudaStreamSynchronize(stream.handle);
  if (status != cudaSuccess) {
    throw CudaError(cat(kernel, ": the launch gave ", cudaGetErrorName(status), " (",
                        cudaGetErrorString(status), "); run with LAMINA_SYNC=1 to find the kernel"),
                    static_cast<int>(status));
  }
}

std::shared_ptr<void> record_time(CudaStream stream) noexcept {
  std::shared_ptr<void> event = new_event(stream.device);
  if (event && cudaEventRecord(static_cast<cudaEvent_t>(event.get()), stream.handle) == cudaSuccess)
    return event;
  return {};
}

bool has_passed(void* event) noexcept {
  const cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(event));
  if (status == cudaErrorNotReady) cudaGetLastError();
  return status != cudaErrorNotReady;
}

void wait_for(void* event) {
  LAMINA_CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
}

double elapsed_ms(void* start, void* stop) {
  if (start == nullptr || stop == nullptr) return std::numeric_limits<double>::quiet_NaN();
  auto* const first = static_cast<cudaEvent_t>(start);
  auto* const last = static_cast<cudaEvent_t>(stop);
  float ms = 0.0F;
  wait_for(start);
  wait_for(stop);
  LAMINA_CUDA_CHECK(cudaEventElapsedTime(&ms, first, last));
  return static_cast<double>(ms);
}

void push_range(std::string_view name, bool is_backward) noexcept {
  constexpr std::uint32_t kGreen = 0xff2e9e5bU, kOrange = 0xffd9822bU;  // ARGB
  nvtxEventAttributes_t range{};
  range.version = NVTX_VERSION;
  range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  range.colorType = NVTX_COLOR_ARGB;
  range.color = is_backward ? kOrange : kGreen;
  range.messageType = NVTX_MESSAGE_TYPE_ASCII;
  range.message.ascii = name.empty() ? "-" : name.data();
  nvtxRangePushEx(&range);
}

void pop_range() noexcept {
  nvtxRangePop();
}

}  // namespace lamina::cuda
