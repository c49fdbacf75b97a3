// SPDX-License-Identifier: MIT
#include "core/profile_scope.h"

#include <cstdlib>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

namespace {

struct ThreadState {
  std::string_view path;
  Direction direction = Direction::forward;
  std::string_view kernel;
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

// Ranges for NVIDIA's tools: a branch each when none is attached.
#if LAMINA_WITH_CUDA
void push_range(std::string_view name, Direction direction) {
  cuda::push_range(name, direction == Direction::backward);
}

void pop_range() {
  cuda::pop_range();
}
#else
void push_range(std::string_view /*name*/, Direction /*direction*/) {}

void pop_range() {}
#endif

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

std::string_view current_kernel() {
  return thread_state.kernel;
}

ProfileScope::ProfileScope(std::string_view path, Direction direction)
    : previous_path_(thread_state.path),
      previous_direction_(thread_state.direction),
      sink_(thread_state.sink) {
  if (path.data() != previous_path_.data() || path.size() != previous_path_.size()) {
    thread_state.path = intern(path);
  }
  thread_state.direction = direction;
  push_range(thread_state.path, direction);
  if (sink_ != nullptr) sink_->enter_scope(thread_state.path, direction);
}

ProfileScope::~ProfileScope() {
  if (sink_ != nullptr) sink_->leave_scope();
  pop_range();
  thread_state.path = previous_path_;
  thread_state.direction = previous_direction_;
}

KernelScope::KernelScope(std::string_view name, const Cost& cost, const Stream& stream)
    : previous_name_(std::exchange(thread_state.kernel, name)),
      sink_(thread_state.sink),
      stream_(stream) {
  push_range(name, thread_state.direction);
  if (sink_ != nullptr) sink_->enter_kernel(name, cost, stream_);
}

KernelScope::~KernelScope() {
  if (sink_ != nullptr) sink_->leave_kernel(stream_);
  pop_range();
  thread_state.kernel = previous_name_;
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

}  // namespace lamina
