// SPDX-License-Identifier: MIT
#include "core/time_point.h"

#include <limits>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

std::chrono::nanoseconds host_now() {
  return std::chrono::steady_clock::now().time_since_epoch();
}

TimePoint time_on(const Stream& stream, const HostClock& clock) {
#if LAMINA_WITH_CUDA
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) {
    return {.host = {}, .event = cuda::record_time(*on_cuda)};
  }
#endif
  (void)stream;
  return {.host = clock(), .event = {}};
}

bool has_passed(const TimePoint& point) {
#if LAMINA_WITH_CUDA
  if (point.event) return cuda::has_passed(point.event.get());
#endif
  (void)point;
  return true;
}

void wait_for(const TimePoint& point) {
#if LAMINA_WITH_CUDA
  if (point.event) cuda::wait_for(point.event.get());
#endif
  (void)point;
}

double ms_between(const TimePoint& from, const TimePoint& to) {
  if (from.host && to.host) {
    return std::chrono::duration<double, std::milli>(*to.host - *from.host).count();
  }
#if LAMINA_WITH_CUDA
  if (from.event && to.event) return cuda::elapsed_ms(from.event.get(), to.event.get());
#endif
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace lamina
