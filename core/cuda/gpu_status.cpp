// SPDX-License-Identifier: MIT
#include "core/cuda/gpu_status.h"

#include "core/cuda/check.h"

#include <cuda_runtime_api.h>

#include <array>
#include <dlfcn.h>

namespace lamina::cuda {

namespace {

/// The functions of NVML that are used. Declared here because not every toolkit has nvml.h; their
/// ABI does not change, https://docs.nvidia.com/deploy/nvml-api.
class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    const auto init = find<int()>("nvmlInit_v2");
    is_ready_ = init != nullptr && init() == 0;
  }

  ~Nvml() {
    if (const auto shutdown = find<int()>("nvmlShutdown"); is_ready_ && shutdown) shutdown();
    if (library_ != nullptr) dlclose(library_);
  }

  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::string driver() const {
    std::array<char, 96> text{};
    const auto ask = find<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
    const bool is_known = is_ready_ && ask != nullptr && ask(text.data(), text.size() - 1) == 0;
    return is_known ? text.data() : "";
  }

  /// nullptr when there is none.
  void* device(const char* bus_id) const {
    void* handle = nullptr;
    const auto ask = find<int(const char*, void**)>("nvmlDeviceGetHandleByPciBusId_v2");
    return is_ready_ && ask != nullptr && ask(bus_id, &handle) == 0 ? handle : nullptr;
  }

  enum class Clock : int { multiprocessors = 1, memory = 2 };

  ClockRates clock(void* device, Clock clock) const {
    const auto rate = [&](const char* name) {
      unsigned mhz = 0;
      const auto ask = find<int(void*, int, unsigned*)>(name);
      const bool is_known =
          device != nullptr && ask != nullptr && ask(device, static_cast<int>(clock), &mhz) == 0;
      return is_known ? mhz : 0;
    };
    return {.now = rate("nvmlDeviceGetClockInfo"), .most = rate("nvmlDeviceGetMaxClockInfo")};
  }

 private:
  template <class Function>
  Function* find(const char* name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library_, name));
  }

  void* library_;
  bool is_ready_ = false;
};

/// 13000 is "13.0".
std::string version_text(int version) {
  return version > 0 ? cat(version / 1000, ".", version % 1000 / 10) : "";
}

}  // namespace

GpuStatus gpu_status(int device) {
  std::array<char, 32> bus_id{};
  LAMINA_CUDA_CHECK(cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), device));
  const Nvml nvml;
  void* const handle = nvml.device(bus_id.data());
  return {.driver = nvml.driver(),
          .multiprocessors = nvml.clock(handle, Nvml::Clock::multiprocessors),
          .memory = nvml.clock(handle, Nvml::Clock::memory)};
}

std::string toolkit_version() {
  return version_text(CUDART_VERSION);
}

std::string driver_cuda_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version_text(version) : "";
}

std::string why_no_device() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();  // not to be seen later
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return count == 0 ? "no device" : "";
}

}  // namespace lamina::cuda
