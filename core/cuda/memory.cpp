// SPDX-License-Identifier: MIT
// Device memory of one GPU as a MemorySource: cudaMalloc, and events from a pool.
#include "core/cuda/check.h"
#include "core/cuda/device_guard.h"
#include "core/cuda/runtime.h"

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace lamina::cuda {

namespace {

class CudaMemory final : public MemorySource {
 public:
  explicit CudaMemory(int device) : device_(device) {}

  void* reserve(std::size_t bytes) override {
    const DeviceGuard guard(device_);
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    LAMINA_CUDA_CHECK(status);
    return memory;
  }

  void release(void* memory, std::size_t /*bytes*/) noexcept override {
    cudaFree(memory);  // waits for the device; at program exit the context may be gone already
  }

  // A device that has failed reports that at the next launch or copy. Its events count as done
  // here, so that the destructors of tensors can run until then.
  Event record(StreamId stream) override {
    const std::lock_guard lock(mutex_);
    cudaEvent_t handle = take_handle();
    ++last_event_;
    if (handle != nullptr) {
      if (cudaEventRecord(handle, reinterpret_cast<cudaStream_t>(stream)) == cudaSuccess) {
        pending_.emplace(last_event_, handle);
      } else {  // a stream without events is waited for; on a failed device that returns at once
        cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(stream));
        free_.push_back(handle);
      }
    }
    return last_event_;
  }

  bool done(Event event) override {
    const std::lock_guard lock(mutex_);
    const auto it = pending_.find(event);
    if (it == pending_.end()) return true;
    const cudaError_t status = cudaEventQuery(it->second);
    // The latter two are of a capture: the device has not failed, the answer is not known.
    if (status == cudaErrorNotReady || status == cudaErrorCapturedEvent ||
        status == cudaErrorStreamCaptureUnsupported) {
      cudaGetLastError();
      return false;
    }
    spend(it);
    return true;
  }

  void wait(Event event) override {
    cudaEvent_t handle = nullptr;
    {
      const std::lock_guard lock(mutex_);
      const auto it = pending_.find(event);
      if (it == pending_.end()) return;
      handle = it->second;
      pending_.erase(it);
    }
    cudaEventSynchronize(handle);
    const std::lock_guard lock(mutex_);
    free_.push_back(handle);
  }

  void discard(Event event) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto it = pending_.find(event);
    if (it != pending_.end()) spend(it);
  }

  Info info() const override {
    Info info;
    int previous = 0;
    if (cudaGetDevice(&previous) != cudaSuccess || cudaSetDevice(device_) != cudaSuccess) return {};
    const cudaError_t status = cudaMemGetInfo(&info.free, &info.total);
    cudaSetDevice(previous);
    return status == cudaSuccess ? info : Info();
  }

  std::string name() const override { return cat("cuda:", device_); }

 private:
  using Pending = std::unordered_map<Event, cudaEvent_t>;

  // From the pool, or new; nullptr when the device has failed.
  cudaEvent_t take_handle() {
    cudaEvent_t handle = nullptr;
    if (!free_.empty()) {
      handle = free_.back();
      free_.pop_back();
      return handle;
    }
    int previous = 0;
    if (cudaGetDevice(&previous) != cudaSuccess || cudaSetDevice(device_) != cudaSuccess)
      return nullptr;
    if (cudaEventCreateWithFlags(&handle, cudaEventDisableTiming) != cudaSuccess) handle = nullptr;
    cudaSetDevice(previous);
    return handle;
  }

  void spend(Pending::iterator it) {
    free_.push_back(it->second);
    pending_.erase(it);
  }

  int device_;
  std::mutex mutex_;
  Event last_event_ = 0;
  Pending pending_;
  std::vector<cudaEvent_t> free_;
};

}  // namespace

void* reserve_pinned(std::size_t bytes) {
  void* memory = nullptr;
  LAMINA_CUDA_CHECK(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable));
  return memory;
}

void release_pinned(void* memory) noexcept {
  cudaFreeHost(memory);
}

MemorySource& memory(int device) {
  static std::mutex mutex;
  static auto& sources = *new std::map<int, std::unique_ptr<CudaMemory>>;  // outlives all tensors
  const std::lock_guard lock(mutex);
  auto& source = sources[device];
  if (!source) source = std::make_unique<CudaMemory>(device);
  return *source;
}

}  // namespace lamina::cuda
