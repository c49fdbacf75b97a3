// SPDX-License-Identifier: MIT
// What core needs of the CUDA runtime, without its headers: the seam between core/*.cpp and
// core/cuda/*.cpp. Only used in builds with CUDA.
#pragma once

#include "core/allocator.h"
#include "core/device.h"
#include "core/stream.h"

#include <cstddef>
#include <string_view>

namespace lamina::cuda {

/// Usable devices; 0 when there is no driver.
int device_count();

DeviceInfo query(int device);

/// Makes `device` current for this thread. Returns the previous one, or -1 when it was current
/// already.
int exchange_device(int device);
void restore_device(int device) noexcept;

/// The process's own non-blocking stream of the device; made at the first call.
CudaStream default_stream(int device);

void synchronize(CudaStream stream);

/// Device memory of one device as a MemorySource.
MemorySource& memory(int device);

/// Page-locked host memory: a copy from it does not make the host wait. Throws CudaError.
void* reserve_pinned(std::size_t bytes);
void release_pinned(void* memory) noexcept;

/// Queues a copy between any two of host and device memory. A copy to the host has finished when
/// this returns.
void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
          CudaStream stream);

/// Throws CudaError when the last launch of this thread failed; `wait` has no effect in a capture.
void check_launch(CudaStream stream, std::string_view kernel, bool wait);

/// A point in time on a stream, nullptr when the device has failed. Events come from a pool.
void* record_time(CudaStream stream) noexcept;

/// Milliseconds between two points of one stream, NaN when either is missing; waits for the later
/// one and gives both back to the pool.
double elapsed_ms(void* start, void* stop, CudaStream stream);

/// Begins to record what this thread queues on the stream, instead of running it.
void begin_capture(CudaStream stream);
bool is_capturing(CudaStream stream);

struct CapturedGraph {
  void* executable = nullptr;  // destroy_graph() ends its life
  std::size_t nodes = 0;
};

/// Ends the recording. Throws CudaError when something was queued that cannot be recorded.
CapturedGraph end_capture(CudaStream stream);
void abandon_capture(CudaStream stream) noexcept;
void launch_graph(void* executable, CudaStream stream);
void destroy_graph(void* executable, CudaStream stream) noexcept;

void push_range(std::string_view name);
void pop_range();

}  // namespace lamina::cuda
