// SPDX-License-Identifier: MIT
// A trace: every kernel of a few steps with its layer, direction and time, as data and as the JSON
// that https://ui.perfetto.dev and chrome://tracing open. Who records it is in trace_recorder.h.
// docs/trace.md shows how to read the file.
#pragma once

#include "core/memory_snapshot.h"
#include "core/profile_scope.h"

#include <array>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

/// A kernel, copy or fill. Times are of std::chrono::steady_clock.
struct TraceKernel {
  std::string name;        // of the kernel on CUDA, of the op on the CPU
  std::string full_name;   // with namespaces, template arguments and parameters; may be empty
  std::string_view op;     // Args::kName of the launch, "" outside of launch()
  std::string_view layer;  // profiler path, "" outside of any scope
  Direction direction = Direction::forward;
  int step = 0;
  std::uint32_t stream = 0;  // small number; kernels of one stream start in the order of launch
  std::int64_t start_ns = 0, end_ns = 0;
  std::uint64_t call = 0;  // id of the TraceCall that queued it; 0: none
  std::int64_t bytes = 0;  // of a copy or fill, or what the op must move at least; 0: not known
  std::int64_t flops = 0;  // what the op must do at least; 0: not known
  std::array<int, 3> grid{}, block{};  // blocks and threads; 0 for copies and on the CPU
  int registers = 0;                   // of a thread
  int shared_bytes = 0;                // of a block
};

/// A call by which a host thread queued work or waited for it.
struct TraceCall {
  std::string name;
  std::uint64_t id = 0;
  std::uint64_t thread = 0;
  std::int64_t start_ns = 0, end_ns = 0;
};

struct Trace {
  std::string device;  // for people
  std::vector<TraceKernel> kernels;
  std::vector<TraceCall> calls;
  std::vector<MemorySample> memory;
};

/// The name alone: "f" for "void a::(anonymous namespace)::f<int, 4>(float*)".
std::string short_kernel_name(std::string_view full_name);

/// Sum of kernel times in ns by layer and direction. Kernels that overlap count in full.
struct LayerTime {
  std::string_view layer;
  Direction direction = Direction::forward;
  std::int64_t ns = 0;
  std::int64_t kernels = 0;
};

/// Largest first.
std::vector<LayerTime> layer_times(const Trace& trace);

/// Writes the trace event format. Two processes: the device, with a track of layers (nested, by the
/// parts of their paths, inside a slice for each step) and a track of kernels for each stream, and
/// a counter of memory; and the host, with a track for each thread and an arrow from each call to
/// the first kernel that it queued. Kernels of one stream that overlap go to a further track,
/// because a track must nest. Times begin with 0 at the first event.
void write_chrome_trace(const Trace& trace, std::ostream& out);

}  // namespace lamina
