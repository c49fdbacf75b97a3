// SPDX-License-Identifier: MIT
// What core needs of the CUDA runtime, without its headers: the seam between core/*.cpp and
// core/cuda/*.cpp. Only used in builds with CUDA.
#pragma once

#include "core/allocator.h"
#include "core/device.h"
#include "core/stream.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
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

/// The same for copies beside the work of that stream.
CudaStream transfer_stream(int device);

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

/// An event, from a pool and back to it with its last owner, that is passed when the work queued on
/// the stream so far is done. Null when the device has failed.
std::shared_ptr<void> record_time(CudaStream stream) noexcept;

/// Whether the device has passed the event. Never blocks; true when the device has failed.
bool has_passed(void* event) noexcept;

/// Blocks until the device has passed the event. Throws CudaError when the device has failed.
void wait_for(void* event);

/// Milliseconds between two events of one device; waits for both. NaN when either is null.
double elapsed_ms(void* start, void* stop);

/// Begins to record what this thread queues on the stream, instead of running it.
void begin_capture(CudaStream stream);
bool is_capturing(CudaStream stream);

/// Throws Error during a capture: each replay would read the host memory again that is copied now.
void expect_no_capture(std::string_view op, CudaStream stream);

/// What the next work on a capturing stream will follow.
struct CaptureTail {
  std::size_t count = 0;  // of nodes: 0 at the beginning, more than one behind a join
  void* node = nullptr;   // when there is one
};

/// Nothing when the stream is not capturing, or the capture has failed.
std::optional<CaptureTail> capture_tail(CudaStream stream) noexcept;

struct CapturedGraph {
  void* graph = nullptr;       // destroy_graph() ends its life
  void* executable = nullptr;  // destroy_executable() ends its life
  std::size_t nodes = 0;
};

/// Ends the recording. Throws CudaError when something was queued that cannot be recorded.
CapturedGraph end_capture(CudaStream stream);
void abandon_capture(CudaStream stream) noexcept;
void launch_graph(void* executable, CudaStream stream);
void destroy_executable(void* executable, CudaStream stream) noexcept;
void destroy_graph(void* graph) noexcept;

/// Points of a graph at which it notes the time, in nanoseconds of the device's clock.
struct TimeStamps {
  std::span<void* const> nodes;  // when each of these is done; nullptr: the beginning
  const void* kernel;            // that writes a time: time_stamp_kernel()
  std::uint64_t* on_device;      // the times, one a node, and
  std::uint64_t* on_host;        // their copy at the end; both live as long as the executable
};

/// Puts the kernel of a time stamp behind each of the nodes, and makes a second executable of the
/// graph. What followed a node follows that kernel from then on, as a programmatic dependent launch
/// where it was one. Once for a graph.
void* instantiate_timed(void* graph, const TimeStamps& stamps, CudaStream stream);

/// `__global__ void (std::uint64_t* at)`, for one thread: writes the time when all before it is
/// done. Defined in cuda_kernels/time_stamp.cu.
const void* time_stamp_kernel();

/// Opens a range that NVIDIA's tools show. `name` ends with a zero.
void push_range(std::string_view name, bool is_backward) noexcept;
void pop_range() noexcept;

}  // namespace lamina::cuda
