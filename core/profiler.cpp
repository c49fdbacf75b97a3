// SPDX-License-Identifier: MIT
#include "core/profiler.h"

#include "core/text.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>
#include <vector>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

namespace {

struct ThreadState {
  std::string_view path;
  Direction direction = Direction::forward;
  Sink* sink = nullptr;
};

thread_local ThreadState thread_state;

// Paths outlive the scopes that name them: nodes and allocations keep views of them.
std::string_view intern(std::string_view path) {
  if (path.empty()) return {};
  static std::mutex mutex;
  static auto& paths = *new std::set<std::string, std::less<>>;
  const std::lock_guard lock(mutex);
  auto it = paths.find(path);
  if (it == paths.end()) it = paths.emplace(path).first;
  return *it;
}

bool sync_requested() {
  static const char* const kValue = std::getenv("LAMINA_SYNC");  // NOLINT(concurrency-mt-unsafe)
  return kValue != nullptr && std::string_view(kValue) == "1";
}

}  // namespace

Sink* exchange_sink(Sink* sink) {
  return std::exchange(thread_state.sink, sink);
}

std::string_view current_scope() {
  return thread_state.path;
}

Direction current_direction() {
  return thread_state.direction;
}

ProfileScope::ProfileScope(std::string_view path, Direction direction)
    : previous_path_(thread_state.path),
      previous_direction_(thread_state.direction),
      sink_(thread_state.sink) {
  if (path.data() != previous_path_.data() || path.size() != previous_path_.size()) {
    thread_state.path = intern(path);
  }
  thread_state.direction = direction;
  if (sink_ != nullptr) sink_->enter_scope(thread_state.path, direction);
}

ProfileScope::~ProfileScope() {
  if (sink_ != nullptr) sink_->leave_scope();
  thread_state.path = previous_path_;
  thread_state.direction = previous_direction_;
}

KernelScope::KernelScope(std::string_view name, const Cost& cost, const Stream& stream)
    : sink_(thread_state.sink), stream_(stream) {
  if (sink_ != nullptr) sink_->enter_kernel(name, cost, stream_);
}

KernelScope::~KernelScope() {
  if (sink_ != nullptr) sink_->leave_kernel(stream_);
}

void check_launch(const Stream& stream, std::string_view kernel) {
#if LAMINA_WITH_CUDA
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) {
    cuda::check_launch(*on_cuda, kernel, sync_requested());
  }
#else
  (void)stream;
  (void)kernel;
  (void)sync_requested;
#endif
}

// ---- TableSink
// -----------------------------------------------------------------------------------

namespace {

using Clock = std::chrono::steady_clock;

struct Row {
  std::int64_t calls = 0;
  double ms = 0.0;
  Cost cost;
};

// Scope, direction, kernel.
using RowKey = std::tuple<std::string_view, Direction, std::string_view>;

}  // namespace

struct TableSink::State {
  struct Open {
    RowKey key;
    Cost cost;
    Clock::time_point start;
    void* start_event = nullptr;
  };

  struct Pending {
    RowKey key;
    Cost cost;
    void* start_event;
    void* stop_event;
    Stream stream;
  };

  void add(const RowKey& key, const Cost& cost, double ms) {
    Row& row = rows[key];
    ++row.calls;
    row.ms += ms;
    row.cost.bytes += cost.bytes;
    row.cost.flops += cost.flops;
  }

  std::vector<Open> open;
  std::vector<Pending> pending;
  std::map<RowKey, Row> rows;
};

TableSink::TableSink() : state_(std::make_unique<State>()) {}

TableSink::~TableSink() = default;

void TableSink::enter_scope(std::string_view /*path*/, Direction /*direction*/) {}

void TableSink::leave_scope() {}

void TableSink::enter_kernel(std::string_view name, const Cost& cost, const Stream& stream) {
  State::Open open{{current_scope(), current_direction(), name}, cost, Clock::now()};
#if LAMINA_WITH_CUDA
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) {
    open.start_event = cuda::record_time(*on_cuda);
  }
#else
  (void)stream;
#endif
  state_->open.push_back(open);
}

void TableSink::leave_kernel(const Stream& stream) {
  const State::Open open = state_->open.back();
  state_->open.pop_back();
#if LAMINA_WITH_CUDA
  if (const auto* on_cuda = std::get_if<CudaStream>(&stream)) {
    state_->pending.push_back(
        {open.key, open.cost, open.start_event, cuda::record_time(*on_cuda), stream});
    return;
  }
#else
  (void)stream;
#endif
  const std::chrono::duration<double, std::milli> elapsed = Clock::now() - open.start;
  state_->add(open.key, open.cost, elapsed.count());
}

std::string TableSink::table() {
#if LAMINA_WITH_CUDA
  for (const State::Pending& pending : state_->pending) {
    state_->add(pending.key, pending.cost,
                cuda::elapsed_ms(pending.start_event, pending.stop_event,
                                 std::get<CudaStream>(pending.stream)));
  }
  state_->pending.clear();
#endif
  std::vector<std::pair<RowKey, Row>> rows(state_->rows.begin(), state_->rows.end());
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.second.ms > b.second.ms; });
  double total = 0.0;
  for (const auto& [key, row] : rows)
    total += row.ms;

  std::array<char, 256> line{};
  std::string text;
  std::snprintf(line.data(), line.size(), "%-32s %-8s %-24s %7s %10s %6s %8s %8s\n", "layer",
                "pass", "kernel", "calls", "ms", "share", "GB/s", "TFLOP/s");
  text += line.data();
  for (const auto& [key, row] : rows) {
    const auto& [path, direction, kernel] = key;
    const double seconds = row.ms * 1e-3;
    const auto rate = [&](std::int64_t amount, double unit) {
      return seconds > 0.0 ? static_cast<double>(amount) / seconds / unit : 0.0;
    };
    std::snprintf(line.data(), line.size(), "%-32s %-8s %-24s %7lld %10.3f %5.1f%% %8.1f %8.2f\n",
                  path.empty() ? "-" : std::string(path).c_str(),
                  direction == Direction::forward ? "forward" : "backward",
                  std::string(kernel).c_str(), static_cast<long long>(row.calls), row.ms,
                  total > 0.0 ? 100.0 * row.ms / total : 0.0, rate(row.cost.bytes, 1e9),
                  rate(row.cost.flops, 1e12));
    text += line.data();
  }
  return text;
}

// ---- NvtxSink
// ------------------------------------------------------------------------------------

#if LAMINA_WITH_CUDA
void NvtxSink::enter_scope(std::string_view path, Direction direction) {
  cuda::push_range(direction == Direction::forward ? path : cat(path, " backward"));
}

void NvtxSink::leave_scope() {
  cuda::pop_range();
}

void NvtxSink::enter_kernel(std::string_view name, const Cost& /*cost*/, const Stream& /*stream*/) {
  cuda::push_range(name);
}

void NvtxSink::leave_kernel(const Stream& /*stream*/) {
  cuda::pop_range();
}
#else
void NvtxSink::enter_scope(std::string_view /*path*/, Direction /*direction*/) {}

void NvtxSink::leave_scope() {}

void NvtxSink::enter_kernel(std::string_view /*name*/, const Cost& /*cost*/, const Stream& /*s*/) {}

void NvtxSink::leave_kernel(const Stream& /*stream*/) {}
#endif

}  // namespace lamina
