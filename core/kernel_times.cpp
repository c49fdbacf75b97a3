// SPDX-License-Identifier: MIT
#include "core/kernel_times.h"

#include "core/caching_allocator.h"
#include "core/storage.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

KernelTimes::KernelTimes(Device device, HostClock clock)
    : device_(device), clock_(std::move(clock)) {}

void KernelTimes::begin(std::size_t live_elsewhere) {
  calls_.clear();
  open_.clear();
  marks_.clear();
  captured_nodes_.clear();
  replay_times_.reset();
  replay_done_ = {};
  edges_.clear();
  is_forward_over_ = false;
  held_at_begin_ = held_by_scope();
  held_after_forward_.clear();
  live_elsewhere_ = live_elsewhere;
  peak_live_ = 0;
}

void KernelTimes::enter_scope(std::string_view /*path*/, Direction /*direction*/) {}

void KernelTimes::leave_scope() {}

bool KernelTimes::is_ours(const Stream& stream) const {
#if LAMINA_WITH_CUDA
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) {
    return device_ == Device{DeviceKind::cuda, on_cuda->device};
  }
#endif
  (void)stream;
  return !device_.is_cuda();
}

std::size_t KernelTimes::mark(const Stream& stream) {
#if LAMINA_WITH_CUDA
  const auto* on_cuda = std::get_if<CudaStream>(&stream);
  if (const auto tail = on_cuda != nullptr ? cuda::capture_tail(*on_cuda) : std::nullopt) {
    const bool is_join = tail->count > 1;  // no single node to put a time stamp behind
    const bool is_last = !is_join && !marks_.empty() && marks_.back().captured &&
                         captured_nodes_.back() == tail->node;
    if (is_last) return marks_.size() - 1;  // nothing was queued since: one point for both
    marks_.emplace_back();
    if (!is_join) {
      marks_.back().captured = captured_nodes_.size();
      captured_nodes_.push_back(tail->node);
    }
    return marks_.size() - 1;
  }
#endif
  marks_.push_back({.time = time_on(stream, clock_)});
  return marks_.size() - 1;
}

void KernelTimes::enter_kernel(std::string_view name, const Cost& cost, const Stream& stream) {
  if (!is_ours(stream)) return;
  const Direction direction = current_direction();
  if (direction == Direction::backward && !std::exchange(is_forward_over_, true)) {
    held_after_forward_ = held_by_scope();
  }
  peak_live_ = std::max(peak_live_, live_elsewhere_ + current_allocator(device_).stats().live);
  calls_.push_back({current_scope(), direction, name, cost});
  open_.push_back(calls_.size() - 1);
  edges_.push_back({mark(stream), id_of(stream), open_.back()});
}

void KernelTimes::leave_kernel(const Stream& stream) {
  if (!is_ours(stream) || open_.empty()) return;  // empty: a step began inside a kernel
  open_.pop_back();
  edges_.push_back({mark(stream), id_of(stream), open_.empty() ? kNobody : open_.back()});
}

std::map<std::string, std::size_t> KernelTimes::held_by_scope() const {
  std::map<std::string, std::size_t> held;
  const auto* allocator = dynamic_cast<const CachingAllocator*>(&current_allocator(device_));
  if (allocator == nullptr) return held;  // a user's own keeps no account
  for (const MemoryHolder& holder : allocator->holders())
    held[holder.scope] += holder.bytes;
  return held;
}

void KernelTimes::set_replay(std::shared_ptr<const std::uint64_t> times, TimePoint done) {
  replay_times_ = std::move(times);
  replay_done_ = std::move(done);
}

/// NaN where one of them has no time.
double KernelTimes::ms_between_marks(const Mark& from, const Mark& to) const {
  if (!from.captured || !to.captured || !replay_done_.event) return ms_between(from.time, to.time);
  const std::uint64_t* const ns = replay_times_.get();
  return 1e-6 *
         static_cast<double>(static_cast<std::int64_t>(ns[*to.captured] - ns[*from.captured]));
}

std::vector<ProfileRow> KernelTimes::rows() const {
  wait_for(replay_done_);
  std::vector<ProfileRow> rows;
  std::vector<std::size_t> row_of_call;
  std::map<std::tuple<std::string_view, Direction, std::string_view>, std::size_t> known;
  for (const Call& call : calls_) {
    const auto [it, is_new] =
        known.try_emplace({call.layer, call.direction, call.kernel}, rows.size());
    if (is_new) {
      rows.push_back({.layer = std::string(call.layer),
                      .direction = call.direction,
                      .kernel = std::string(call.kernel)});
    }
    ProfileRow& row = rows[it->second];
    row.calls += 1.0;
    row.bytes += static_cast<double>(call.cost.bytes);
    row.flops += static_cast<double>(call.cost.flops);
    row_of_call.push_back(it->second);
  }
  for (std::size_t i = 0; i + 1 < edges_.size(); ++i) {
    const Edge &from = edges_[i], &to = edges_[i + 1];
    if (from.owner == kNobody || from.stream != to.stream) continue;
    const double ms = ms_between_marks(marks_[from.mark], marks_[to.mark]);
    if (std::isfinite(ms)) rows[row_of_call[from.owner]].ms += ms;
  }
  for (const auto& held : held_after_forward_) {
    const auto at_begin = held_at_begin_.find(held.first);
    const std::size_t before = at_begin != held_at_begin_.end() ? at_begin->second : 0;
    const auto row = std::find_if(rows.begin(), rows.end(),
                                  [&](const ProfileRow& of) { return of.layer == held.first; });
    if (row == rows.end() || held.second <= before) continue;
    row->live_bytes = static_cast<double>(held.second - before);
  }
  return rows;
}

}  // namespace lamina
