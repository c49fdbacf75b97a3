// SPDX-License-Identifier: MIT
#include "core/profiler.h"

#include "core/error.h"
#include "core/step_graph.h"
#include "core/text.h"

#include <algorithm>
#include <limits>

namespace lamina {

namespace {

// Enough for a median; the clocks of the device are then those of the sample.
constexpr std::int64_t kPlainSteps = 8;

/// NaN without values.
double median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

}  // namespace

Profiler::Profiler(Device device, ProfilerOptions options)
    : device_(device), options_(std::move(options)), times_(device, options_.clock) {
  if (options_.every < 1) {
    throw Error(cat("profiler: every is ", options_.every,
                    ", expected at least 1 (steps from one sample to the next)"));
  }
}

void Profiler::step(const std::function<void()>& work) {
  run(work, [&] {
    times_.begin();
    const SinkScope hears(times_);
    work();
  });
}

void Profiler::step(StepGraph& graph, const std::function<void()>& work) {
  graph.prepare_timed();
  run([&] { graph.run(work); }, [&] { graph.run_timed(work, times_); });
}

void Profiler::run(const std::function<void()>& plain, const std::function<void()>& timed) {
  const std::int64_t next = step_ + 1;
  const std::int64_t to_sample = (options_.every - next % options_.every) % options_.every;
  if (to_sample == 0) {
    finish();  // a replay writes its times where the last one did
    const Span span = time(timed);
    sample_ = {.step = next, .time = span, .plain = std::exchange(plain_, {})};
  } else if (to_sample <= kPlainSteps) {
    plain_.push_back(time(plain));
  } else {
    plain();
  }
  step_ = next;
  if (sample_ && has_passed(sample_->time.second)) read_sample();
}

Profiler::Span Profiler::time(const std::function<void()>& work) const {
  const Stream stream = current_stream(device_);
  TimePoint start = time_on(stream, options_.clock);
  work();
  return {std::move(start), time_on(stream, options_.clock)};
}

void Profiler::read_sample() {
  const Sample sample = *std::exchange(sample_, std::nullopt);
  std::vector<double> plain;
  for (const auto& [start, stop] : sample.plain)
    plain.push_back(ms_between(start, stop));
  const Profile profile = {.step = sample.step,
                           .step_ms = median(std::move(plain)),
                           .profiled_ms = ms_between(sample.time.first, sample.time.second),
                           .peak_bytes = static_cast<double>(times_.peak_live()),
                           .ceilings = options_.ceilings,
                           .rows = times_.rows()};
  sum_.add(profile);
  if (options_.on_sample) options_.on_sample(profile);
}

void Profiler::finish() {
  if (sample_) read_sample();
}

Profile Profiler::mean() {
  finish();
  return sum_.samples > 0 ? sum_.mean() : sum_;
}

std::string Profiler::table(const ProfileTableOptions& options) {
  const Profile profile = mean();
  if (profile.samples == 0) {
    return cat("profile: no sample in ", step_, " steps, one every ", options_.every, "\n");
  }
  return table_of(profile, options);
}

}  // namespace lamina
