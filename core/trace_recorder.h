// SPDX-License-Identifier: MIT
// Who records a Trace. On the CPU a Sink with the host's clock; on CUDA NVIDIA's CUPTI, which is
// told of every kernel, also of those that a replayed graph launches.
//
//   TraceRecorder recorder(device);          // before the graph to be traced is captured
//   ... a few steps, to warm up ...
//   recorder.start();
//   for (int step = 1; step <= 3; ++step) {
//     recorder.begin_step(step);
//     train_step();
//   }
//   write_chrome_trace(recorder.stop(), file);
#pragma once

#include "core/device.h"
#include "core/profile_scope.h"
#include "core/trace.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

/// Writes down what this thread launches, with the host's clock: the kernels themselves on the CPU,
/// on CUDA how long the launches took.
class LaunchSink final : public Sink {
 public:
  void enter_scope(std::string_view /*path*/, Direction /*direction*/) override {}

  void leave_scope() override {}

  void enter_kernel(std::string_view name, const Cost& cost, const Stream& stream) override;
  void leave_kernel(const Stream& stream) override;

  /// Kernels from now on belong to this step.
  void begin_step(int step) { step_ = step; }

  /// In order of start. Kernels inside of others are among them.
  const std::vector<TraceKernel>& launches() const { return launches_; }

 private:
  std::vector<TraceKernel> launches_;
  std::vector<std::size_t> open_;  // indices of launches_
  int step_ = 0;
};

/// Records the kernels of one device. One at a time on CUDA.
class TraceRecorder {
 public:
  /// Throws Error on CUDA where CUPTI is missing, too old, or used by another tool. From now on the
  /// layers of the kernels of captured graphs are remembered, which costs nothing outside of
  /// captures.
  explicit TraceRecorder(Device device);
  ~TraceRecorder();
  TraceRecorder(const TraceRecorder&) = delete;
  TraceRecorder& operator=(const TraceRecorder&) = delete;

  /// Begins to record what this thread launches (CPU) or the process launches (CUDA), until stop().
  /// The sink of this thread is replaced on the CPU.
  void start();

  /// Kernels launched from now on belong to this step. Throws Error unless start() was called.
  void begin_step(int step);

  /// Waits for the device. Kernels in order of start. Throws Error unless start() was called.
  Trace stop();

 private:
  void expect_recording(std::string_view function) const;

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lamina
