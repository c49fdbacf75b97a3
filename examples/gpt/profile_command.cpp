// SPDX-License-Identifier: MIT
#include "examples/gpt/profile_command.h"

#include "core/memory_snapshot.h"
#include "core/step_graph.h"
#include "core/storage.h"
#include "core/text.h"
#include "core/time_point.h"
#include "core/trace_recorder.h"
#include "examples/gpt/live_line.h"
#include "examples/gpt/log.h"
#include "examples/gpt/train.h"
#include "examples/gpt/training_step.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <sstream>
#include <vector>

namespace lamina::gpt {

namespace {

constexpr int kWarmUp = 2;              // steps
constexpr std::size_t kLayerRows = 12;  // of the printed table

/// Device memory: the device's own allocator, and that of the graph where there is one.
class Pools {
 public:
  explicit Pools(Device device) : pools_{&device_allocator(device)} {}

  void add(CachingAllocator* pool) {
    if (pool == nullptr) return;
    pool->record_history(true);
    pools_.push_back(pool);
  }

  void record() const {
    for (CachingAllocator* pool : pools_)
      pool->record_history(true);
  }

  /// Ends the recording, too.
  std::vector<MemoryHistory> histories() const {
    std::vector<MemoryHistory> all;
    for (CachingAllocator* pool : pools_) {
      pool->record_history(false);
      all.emplace_back(*pool);
    }
    return all;
  }

  MemorySample now(std::int64_t time_ns) const {
    MemorySample sum{.time_ns = time_ns};
    for (const CachingAllocator* pool : pools_) {
      const AllocatorStats stats = pool->stats();
      sum.live += stats.live, sum.reserved += stats.reserved;
    }
    return sum;
  }

 private:
  std::vector<CachingAllocator*> pools_;
};

/// Where the kernels' time went, by layer and direction.
std::string layer_table(const Trace& trace, std::int64_t steps) {
  const std::vector<LayerTime> times = layer_times(trace);
  std::int64_t total = 0, named = 0;
  for (const LayerTime& one : times) {
    total += one.ns;
    if (!one.layer.empty()) named += one.ns;
  }
  const auto ms_per_step = [&](std::int64_t ns) {
    return static_cast<double>(ns) / 1e6 / static_cast<double>(steps);
  };
  const auto percent = [&](std::int64_t ns) {
    return total > 0 ? 100.0 * static_cast<double>(ns) / static_cast<double>(total) : 0.0;
  };
  std::string text;
  std::array<char, 256> line{};
  std::snprintf(line.data(), line.size(), "%-32s %-8s %12s %12s %6s\n", "layer", "pass",
                "kernels/step", "ms/step", "share");
  text += line.data();
  for (std::size_t i = 0; i < std::min(kLayerRows, times.size()); ++i) {
    const LayerTime& one = times[i];
    std::snprintf(line.data(), line.size(), "%-32s %-8s %12.1f %12.3f %5.1f%%\n",
                  one.layer.empty() ? "(no layer)" : std::string(one.layer).c_str(),
                  one.direction == Direction::forward ? "forward" : "backward",
                  static_cast<double>(one.kernels) / static_cast<double>(steps),
                  ms_per_step(one.ns), percent(one.ns));
    text += line.data();
  }
  std::snprintf(line.data(), line.size(),
                "all: %zu kernels and copies, %.3f ms a step, %.1f%% of it in named layers\n",
                trace.kernels.size(), ms_per_step(total), percent(named));
  return text + line.data();
}

}  // namespace

int profile(const Options& options, Console& console) {
  set_threads(options.threads);
  const Device device = Device::parse(options.device);
  TraceRecorder recorder(device);  // before the capture, whose layers it remembers
  Pools pools(device);
  pools.record();
  StepGraph graph(device, kWarmUp);
  pools.add(graph.pool());

  LaunchSink launches;
  std::optional<TrainingStep> step;
  std::int64_t index = 0;
  const auto train_step = [&] {
    step->upload(index++);
    options.eager ? graph.run_eagerly([&] { step->run(); }) : graph.run([&] { step->run(); });
  };
  {
    const SinkScope listening(launches);
    step.emplace(options);
    for (int i = 0; i < kWarmUp; ++i)
      train_step();
  }
  synchronize(device);
  const std::vector<MemoryHistory> histories = pools.histories();
  write_file(options.memory, memory_snapshot(histories, launches.launches(), device.index));
  console.out << memory_table(histories) << '\n';

  if (device.is_cuda() && !options.eager) train_step();  // captures
  pools.record();
  recorder.start();
  for (int i = 1; i <= static_cast<int>(options.steps); ++i) {
    recorder.begin_step(i);
    train_step();
  }
  synchronize(device);
  const std::chrono::nanoseconds recorded = host_now();
  Trace trace = recorder.stop();
  trace.memory = memory_over_time(pools.histories());
  if (!trace.kernels.empty()) {
    // A replay allocates nothing: without these two the counter would have no points.
    const MemorySample end = pools.now(trace.kernels.back().end_ns);
    if (trace.memory.empty()) trace.memory.push_back(pools.now(trace.kernels.front().start_ns));
    trace.memory.push_back(end);
  }
  std::ostringstream json;
  write_chrome_trace(trace, json);
  write_file(options.trace, json.str());
  const double seconds = std::chrono::duration<double>(host_now() - recorded).count();
  console.out << layer_table(trace, options.steps) << "\ntrace   " << options.trace << ", "
              << bytes_text(json.str().size()) << " in " << fixed(seconds, 2)
              << " s: open it at https://ui.perfetto.dev\n"
              << "memory  " << options.memory << ": open it at https://pytorch.org/memory_viz\n"
              << std::flush;
  return 0;
}

}  // namespace lamina::gpt
