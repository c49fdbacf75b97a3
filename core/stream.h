// SPDX-License-Identifier: MIT
// Stream: where work is queued. A non-owning value; the overload that a kernel's run() is chosen
// by. The only header of Lamina that depends on whether CUDA was enabled.
#pragma once

#include "core/device.h"

#include <cstdint>
#include <variant>

struct CUstream_st;  // the CUDA runtime's stream, so that contracts compile without the toolkit

namespace lamina {

/// The CPU runs at once, in the calling thread and OpenMP's.
struct CpuStream {
  bool operator==(const CpuStream&) const = default;
};

struct CudaStream {
  CUstream_st* handle = nullptr;
  int device = 0;
  bool operator==(const CudaStream&) const = default;
};

#if LAMINA_WITH_CUDA
using Stream = std::variant<CpuStream, CudaStream>;
#else
using Stream = std::variant<CpuStream>;
#endif

using StreamId = std::uint64_t;  // 0 is the CPU, else the value of the CUDA handle

StreamId id_of(const Stream& stream);

/// The stream on which this thread queues work for `device`: the process's non-blocking stream of
/// a CUDA device, which all threads share, unless a StreamScope is open. Throws DeviceError when
/// the device does not exist.
Stream current_stream(Device device);

/// Makes `stream` current for its device in this thread, until destruction.
class StreamScope {
 public:
  explicit StreamScope(const Stream& stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Stream previous_;
};

/// Makes the device of `stream` the CUDA runtime's current one until destruction, as launches need
/// it.
class CurrentDevice {
 public:
  explicit CurrentDevice(const Stream& stream);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int previous_ = -1;  // -1: nothing was changed
};

/// Blocks the host until all work queued on the device's current stream has finished.
void synchronize(Device device);

/// The same for one stream.
void synchronize(const Stream& stream);

}  // namespace lamina
