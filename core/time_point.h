// SPDX-License-Identifier: MIT
// TimePoint: when a stream gets to where it is queued to now. On the CPU that is now, by the host's
// clock; on CUDA an event, whose time is known once the device has passed it.
#pragma once

#include "core/stream.h"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

namespace lamina {

/// A clock that never goes back.
using HostClock = std::function<std::chrono::nanoseconds()>;

/// std::chrono::steady_clock.
std::chrono::nanoseconds host_now();

struct TimePoint {
  std::optional<std::chrono::nanoseconds> host;  // on the CPU
  std::shared_ptr<void> event;                   // on CUDA; null when the device has failed
};

/// When the work queued on `stream` so far is done. Costs some 2 us of the host on CUDA.
TimePoint time_on(const Stream& stream, const HostClock& clock = host_now);

/// Whether the stream has got there. Never blocks.
bool has_passed(const TimePoint& point);

/// Blocks until the stream has got there.
void wait_for(const TimePoint& point);

/// Milliseconds; waits for both. NaN when one of them is missing or they are of different devices.
double ms_between(const TimePoint& from, const TimePoint& to);

}  // namespace lamina
