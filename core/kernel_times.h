// SPDX-License-Identifier: MIT
// KernelTimes: the kernel calls of one step and the time that each took. A sink that notes a point
// in time wherever one kernel ends and another begins. While a step is being captured the points
// are nodes of its graph instead; StepGraph puts time stamps behind them and the times follow with
// every replay.
#pragma once

#include "core/profile.h"
#include "core/profile_scope.h"
#include "core/time_point.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lamina {

class KernelTimes final : public Sink {
 public:
  /// Hears kernels of `device` only. `clock` is what counts on the CPU.
  explicit KernelTimes(Device device, HostClock clock = host_now);

  /// Forgets everything: a step begins in the current allocator of the device, while
  /// `live_elsewhere` bytes of the device are live in others.
  void begin(std::size_t live_elsewhere = 0);

  void enter_scope(std::string_view path, Direction direction) override;
  void leave_scope() override;
  void enter_kernel(std::string_view name, const Cost& cost, const Stream& stream) override;
  void leave_kernel(const Stream& stream) override;

  /// The calls added up by layer, direction and kernel, with the times of the last run. A kernel
  /// inside another counts for itself only. Waits for the device. What the device has failed to
  /// time counts 0 ms.
  std::vector<ProfileRow> rows() const;

  /// Most bytes of the device that were live when a kernel was launched.
  std::size_t peak_live() const { return peak_live_; }

  /// The points that were noted during a capture: nodes of the graph behind which they are, nullptr
  /// for its beginning.
  const std::vector<void*>& captured_nodes() const { return captured_nodes_; }

  /// Where a replay puts the time of each of these, in nanoseconds, and when it has done so.
  void set_replay(std::shared_ptr<const std::uint64_t> times, TimePoint done);

 private:
  static constexpr std::size_t kNobody = static_cast<std::size_t>(-1);

  struct Call {
    std::string_view layer;
    Direction direction;
    std::string_view kernel;
    Cost cost;
  };

  struct Mark {
    TimePoint time = {};
    std::optional<std::size_t> captured = {};  // which of captured_nodes_
  };

  /// From a mark on, up to that of the next edge, the time belongs to a call or to nobody.
  struct Edge {
    std::size_t mark;
    StreamId stream;
    std::size_t owner;
  };

  bool is_ours(const Stream& stream) const;
  std::size_t mark(const Stream& stream);
  double ms_between_marks(const Mark& from, const Mark& to) const;
  std::map<std::string, std::size_t> held_by_scope() const;

  Device device_;
  HostClock clock_;
  std::vector<Call> calls_;
  std::vector<std::size_t> open_;  // calls, innermost last
  std::vector<Mark> marks_;
  std::vector<void*> captured_nodes_;
  std::shared_ptr<const std::uint64_t> replay_times_;
  TimePoint replay_done_;
  std::vector<Edge> edges_;
  bool is_forward_over_ = false;
  std::map<std::string, std::size_t> held_at_begin_, held_after_forward_;  // bytes
  std::size_t live_elsewhere_ = 0, peak_live_ = 0;                         // bytes
};

}  // namespace lamina
