// SPDX-License-Identifier: MIT
// What the driver says about a GPU: versions, and clocks as they are now. Only in builds with CUDA;
// includes none of its headers.
#pragma once

#include <string>

namespace lamina::cuda {

struct ClockRates {
  unsigned now = 0, most = 0;  // MHz; 0: not known
};

struct GpuStatus {
  std::string driver;  // "580.159.04"; empty when NVML (libnvidia-ml.so.1) does not say
  ClockRates multiprocessors, memory;
};

/// Asks NVML, which is loaded when this is called. Throws CudaError when the device does not exist.
GpuStatus gpu_status(int device);

/// "13.0": of the toolkit that this program was built with.
std::string toolkit_version();

/// "13.0": the newest that the driver runs; empty without a driver.
std::string driver_cuda_version();

/// Why no device can be used, in the runtime's words; empty when one can.
std::string why_no_device();

}  // namespace lamina::cuda
