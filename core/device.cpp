// SPDX-License-Identifier: MIT
// Devices and streams: the parts of device.h and stream.h that are not values.
#include "core/device.h"

#include "core/error.h"
#include "core/stream.h"
#include "core/text.h"

#include <charconv>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>
#include <unistd.h>
#include <utility>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

Device Device::parse(std::string_view text) {
  const auto fail = [&]() -> Device {
    throw DeviceError(cat("device: got \"", text, "\", expected cpu, cuda or cuda:INDEX"));
  };
  if (text == "cpu") return {};
  constexpr std::string_view kPrefix = "cuda";
  if (!text.starts_with(kPrefix)) return fail();
  text.remove_prefix(kPrefix.size());
  Device device{DeviceKind::cuda, 0};
  if (text.empty()) return device;
  if (text.front() != ':' || text.size() < 2) return fail();
  text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), device.index);
  if (error != std::errc() || end != text.data() + text.size() || device.index < 0) return fail();
  return device;
}

std::ostream& operator<<(std::ostream& out, const Device& device) {
  if (!device.is_cuda()) return out << "cpu";
  return out << "cuda:" << device.index;
}

int cuda_device_count() {
#if LAMINA_WITH_CUDA
  static const int count = cuda::device_count();
  return count;
#else
  return 0;
#endif
}

void expect_device(Device device) {
  if (!device.is_cuda()) {
    if (device.index == 0) return;
    throw DeviceError(
        cat("device: cpu has index ", device.index, ", expected 0 (the host is one device)"));
  }
  if (device.index < 0 || device.index >= cuda_device_count()) {
    throw DeviceError(cat("device: ", device, " does not exist, expected an index in [0, ",
                          cuda_device_count(), ") (the CUDA devices of this machine)",
                          LAMINA_WITH_CUDA ? "" : "; this build has no CUDA backend"));
  }
}

namespace {

DeviceInfo host_info() {
  const auto pages = sysconf(_SC_PHYS_PAGES);
  const auto page_bytes = sysconf(_SC_PAGE_SIZE);
  return {.name = "cpu",
          .multiprocessors = static_cast<int>(std::thread::hardware_concurrency()),
          .total_memory = static_cast<std::size_t>(pages) * static_cast<std::size_t>(page_bytes)};
}

#if LAMINA_WITH_CUDA
thread_local std::map<int, CudaStream> scoped_streams;
#endif

}  // namespace

const DeviceInfo& device_info(Device device) {
  expect_device(device);
  static std::mutex mutex;
  static std::map<std::pair<DeviceKind, int>, DeviceInfo> known;
  const std::lock_guard lock(mutex);
  const std::pair key{device.kind, device.index};
  auto it = known.find(key);
  if (it == known.end()) {
#if LAMINA_WITH_CUDA
    it = known.emplace(key, device.is_cuda() ? cuda::query(device.index) : host_info()).first;
#else
    it = known.emplace(key, host_info()).first;
#endif
  }
  return it->second;
}

StreamId id_of(const Stream& stream) {
#if LAMINA_WITH_CUDA
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) {
    return reinterpret_cast<StreamId>(on_cuda->handle);
  }
#endif
  (void)stream;
  return 0;
}

Stream current_stream(Device device) {
  expect_device(device);
  if (!device.is_cuda()) return CpuStream{};
#if LAMINA_WITH_CUDA
  const auto it = scoped_streams.find(device.index);
  return it != scoped_streams.end() ? it->second : cuda::default_stream(device.index);
#else
  return CpuStream{};  // not reached: expect_device() has thrown
#endif
}

StreamScope::StreamScope(const Stream& stream) {
#if LAMINA_WITH_CUDA
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) {
    previous_ = current_stream({DeviceKind::cuda, on_cuda->device});
    scoped_streams[on_cuda->device] = *on_cuda;
  }
#endif
  (void)stream;
}

#if LAMINA_WITH_CUDA
CurrentDevice::CurrentDevice(const Stream& stream) {
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) {
    previous_ = cuda::exchange_device(on_cuda->device);
  }
}

CurrentDevice::~CurrentDevice() {
  if (previous_ >= 0) cuda::restore_device(previous_);
}

StreamScope::~StreamScope() {
  if (const auto* on_cuda = std::get_if<CudaStream>(&previous_)) {
    scoped_streams[on_cuda->device] = *on_cuda;
  }
}
#else
CurrentDevice::CurrentDevice(const Stream& /*stream*/) {
  (void)previous_;
}

CurrentDevice::~CurrentDevice() = default;
StreamScope::~StreamScope() = default;
#endif

void synchronize(const Stream& stream) {
#if LAMINA_WITH_CUDA
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) cuda::synchronize(*on_cuda);
#endif
  (void)stream;
}

void synchronize(Device device) {
  synchronize(current_stream(device));
}

}  // namespace lamina
