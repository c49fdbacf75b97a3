// SPDX-License-Identifier: MIT
// Profiler: where the time of a training step goes, measured inside the training loop. Every few
// steps the kernels of one step are timed; the steps before it are timed as a whole, so that each
// profile says what it costs and how much of the step it explains. docs/profiling.md.
//
//   Profiler profiler(device);
//   for (int i = 0; i < 1000; ++i) profiler.step([&] { train_step(); });
//   std::cout << profiler.table();
#pragma once

#include "core/device.h"
#include "core/kernel_times.h"
#include "core/profile.h"
#include "core/time_point.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lamina {

class StepGraph;

struct ProfilerOptions {
  std::int64_t every = 50;  // steps from one sample to the next
  Ceilings ceilings = {};   // of measure_ceilings(); without them there is no percent of roofline
  /// Called from step() or finish() with each sample, once the device has done it.
  std::function<void(const Profile&)> on_sample = {};
  HostClock clock = host_now;  // on the CPU
};

class Profiler {
 public:
  /// Throws Error when `every` is below 1. At 1 every step is a sample and none is left to compare
  /// with.
  explicit Profiler(Device device, ProfilerOptions options = {});

  /// Does `work`, one step. Of kernels on the device's current stream every `every`-th step is a
  /// sample, of the others the last eight before it are timed as a whole. Waits for nothing on
  /// CUDA; the sample is read a few steps later. What `work` throws goes through, and the step does
  /// not count.
  void step(const std::function<void()>& work);

  /// The same for graph.run(work): a sample of a captured step is a replay with time stamps in it,
  /// which gives the same bits.
  void step(StepGraph& graph, const std::function<void()>& work);

  /// Waits for the sample that is under way, if there is one.
  void finish();

  /// Of all samples so far; samples = 0 when there is none. Waits.
  Profile mean();

  /// table_of() of the mean, or a line that says that there is no sample.
  std::string table(const ProfileTableOptions& options = {});

 private:
  using Span = std::pair<TimePoint, TimePoint>;  // a step

  struct Sample {
    std::int64_t step;
    Span time;
    std::vector<Span> plain;  // steps before it
  };

  void run(const std::function<void()>& plain, const std::function<void()>& timed);
  Span time(const std::function<void()>& work) const;
  void read_sample();

  Device device_;
  ProfilerOptions options_;
  KernelTimes times_;
  std::int64_t step_ = 0;
  std::vector<Span> plain_;       // steps since the last sample
  std::optional<Sample> sample_;  // that is under way
  Profile sum_{.samples = 0};
};

}  // namespace lamina
