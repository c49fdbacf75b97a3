// SPDX-License-Identifier: MIT
// Profiling hooks. Layers open a ProfileScope, launch() a KernelScope; both tell the thread's Sink,
// if there is one, and in builds with CUDA open an NVTX range. Without a sink and without a tool
// that listens to NVTX a KernelScope costs two untaken branches, a ProfileScope the look-up of its
// path in a table (tens of nanoseconds) as well: the path also labels allocations and autograd
// nodes. core/profiler.h is the profiler that listens.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <cstdint>
#include <string_view>

namespace lamina {

enum class Direction : std::uint8_t { forward, backward };

/// Receives the scopes of one thread, properly nested, also when an exception leaves them. No
/// function may throw: half of them are called by destructors.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void enter_scope(std::string_view path, Direction direction) = 0;
  virtual void leave_scope() = 0;
  virtual void enter_kernel(std::string_view name, const Cost& cost, const Stream& stream) = 0;
  virtual void leave_kernel(const Stream& stream) = 0;
};

/// Installs a sink for this thread and returns the previous one; nullptr switches profiling off.
Sink* exchange_sink(Sink* sink);

/// The path of this thread's innermost ProfileScope, "" outside; valid for the life of the program.
std::string_view current_scope();
Direction current_direction();

/// The name of the kernel that this thread is launching, "" between launches.
std::string_view current_kernel();

/// Names the work done until destruction, e.g. "blocks.1.mlp.up". The path replaces the outer one.
class ProfileScope {
 public:
  explicit ProfileScope(std::string_view path, Direction direction = Direction::forward);
  ~ProfileScope();
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  std::string_view previous_path_;
  Direction previous_direction_;
  Sink* sink_;
};

/// One kernel call; opened by launch(). `name` is a literal: sinks keep it.
class KernelScope {
 public:
  KernelScope(std::string_view name, const Cost& cost, const Stream& stream);
  ~KernelScope();
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  std::string_view previous_name_;
  Sink* sink_;
  Stream stream_;
};

/// Throws CudaError when the last launch on `stream` failed; with LAMINA_SYNC=1 waits for it first.
void check_launch(const Stream& stream, std::string_view kernel);

/// Installs a sink for the life of the object.
class SinkScope {
 public:
  explicit SinkScope(Sink& sink) : previous_(exchange_sink(&sink)) {}

  ~SinkScope() { exchange_sink(previous_); }

  SinkScope(const SinkScope&) = delete;
  SinkScope& operator=(const SinkScope&) = delete;

 private:
  Sink* previous_;
};

}  // namespace lamina
