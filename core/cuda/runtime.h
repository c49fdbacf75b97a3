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

/// Queues a copy between any two of host and device memory. A copy to the host has finished when
/// this returns.
void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
          CudaStream stream);

/// Throws CudaError when the last launch of this thread failed.
void check_launch(CudaStream stream, std::string_view kernel, bool wait);

/// A point in time on a stream, nullptr when the device has failed. Events come from a pool.
void* record_time(CudaStream stream) noexcept;

/// Milliseconds between two points of one stream, NaN when either is missing; waits for the later
/// one and gives both back to the pool.
double elapsed_ms(void* start, void* stop, CudaStream stream);

void push_range(std::string_view name);
void pop_range();

}  // namespace lamina::cuda
