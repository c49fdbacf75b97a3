// SPDX-License-Identifier: MIT
#include "core/trace_recorder.h"

#include "core/error.h"
#include "core/stream.h"
#include "core/text.h"
#include "core/time_point.h"

#include <optional>
#include <utility>
#if LAMINA_WITH_CUDA
#include "core/cuda/cupti.h"
#endif

namespace lamina {

void LaunchSink::enter_kernel(std::string_view name, const Cost& cost, const Stream& /*stream*/) {
  open_.push_back(launches_.size());
  launches_.push_back({.name = std::string(name),
                       .op = name,
                       .layer = current_scope(),
                       .direction = current_direction(),
                       .step = step_,
                       .bytes = cost.bytes,
                       .flops = cost.flops});
  launches_.back().start_ns = host_now().count();
}

void LaunchSink::leave_kernel(const Stream& /*stream*/) {
  launches_[open_.back()].end_ns = host_now().count();
  open_.pop_back();
}

struct TraceRecorder::State {
  explicit State(Device on) : device(on) {
#if LAMINA_WITH_CUDA
    if (device.is_cuda()) cupti.emplace();
#endif
  }

  Device device;
#if LAMINA_WITH_CUDA
  std::optional<cuda::Cupti> cupti;
#endif
  std::optional<LaunchSink> sink;
  std::optional<SinkScope> listening;
  bool is_recording = false;
};

TraceRecorder::TraceRecorder(Device device) : state_(std::make_unique<State>(device)) {}

TraceRecorder::~TraceRecorder() = default;

void TraceRecorder::expect_recording(std::string_view function) const {
  if (state_->is_recording) return;
  throw Error(cat("trace: ", function,
                  "() is called while nothing is recorded, expected start() before it"));
}

void TraceRecorder::start() {
#if LAMINA_WITH_CUDA
  if (state_->cupti) {
    synchronize(state_->device);  // what is queued already is none of it
    state_->cupti->start();
    state_->is_recording = true;
    return;
  }
#endif
  state_->sink.emplace();
  state_->listening.emplace(*state_->sink);
  state_->is_recording = true;
}

void TraceRecorder::begin_step(int step) {
  expect_recording("begin_step");
#if LAMINA_WITH_CUDA
  if (state_->cupti) return state_->cupti->begin_step(step);
#endif
  state_->sink->begin_step(step);
}

Trace TraceRecorder::stop() {
  expect_recording("stop");
  state_->is_recording = false;
  Trace trace;
#if LAMINA_WITH_CUDA
  if (state_->cupti) {
    synchronize(state_->device);
    trace = state_->cupti->stop();
    trace.device = device_info(state_->device).name;
    return trace;
  }
#endif
  state_->listening.reset();
  trace.device = device_info(state_->device).name;
  trace.kernels = state_->sink->launches();
  state_->sink.reset();
  return trace;
}

}  // namespace lamina
