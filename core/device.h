// SPDX-License-Identifier: MIT
// Device: a value that names where memory lives, and what this machine offers.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

namespace lamina {

enum class DeviceKind : std::uint8_t { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;

  /// "cpu", "cuda" (index 0) or "cuda:1". Throws DeviceError for anything else.
  static Device parse(std::string_view text);

  bool is_cuda() const { return kind == DeviceKind::cuda; }

  bool operator==(const Device&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Device& device);
};

inline constexpr Device kCpu{};

/// Number of CUDA devices that can be used; 0 in a CPU build or without a driver.
int cuda_device_count();

/// What a device offers; asked once and kept.
struct DeviceInfo {
  std::string name;                  // e.g. "NVIDIA H200"
  int compute_capability = 0;        // 90 for sm_90; 0 on the CPU
  int multiprocessors = 0;           // streaming multiprocessors, or cores of the CPU
  std::size_t total_memory = 0;      // bytes
  std::size_t shared_per_block = 0;  // bytes of shared memory a block may opt in to
};

/// Throws DeviceError when the device does not exist.
void expect_device(Device device);

/// Throws DeviceError as well.
const DeviceInfo& device_info(Device device);

}  // namespace lamina
