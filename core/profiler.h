// SPDX-License-Identifier: MIT
// Profiling hooks. Layers open a ProfileScope, launch() a KernelScope; both tell the thread's Sink,
// if there is one. Without a sink a KernelScope costs one untaken branch, a ProfileScope the
// look-up of its path in a table (tens of nanoseconds): the path also labels allocations and
// autograd nodes.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace lamina {

enum class Direction : std::uint8_t { forward, backward };

/// Receives the scopes of one thread, properly nested.
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

/// One kernel call; opened by launch().
class KernelScope {
 public:
  KernelScope(std::string_view name, const Cost& cost, const Stream& stream);
  ~KernelScope();
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  Sink* sink_;
  Stream stream_;
};

/// Throws CudaError when the last launch on `stream` failed; with LAMINA_SYNC=1 waits for it first.
void check_launch(const Stream& stream, std::string_view kernel);

/// Adds up device time, bytes and FLOPs by layer, direction and kernel. On the CPU the clock is the
/// host's; on CUDA event pairs are recorded and read when table() is called, which synchronises.
class TableSink final : public Sink {
 public:
  TableSink();
  ~TableSink() override;
  void enter_scope(std::string_view path, Direction direction) override;
  void leave_scope() override;
  void enter_kernel(std::string_view name, const Cost& cost, const Stream& stream) override;
  void leave_kernel(const Stream& stream) override;

  /// One line per layer, direction and kernel: calls, ms, share, GB/s, TFLOP/s. Largest first.
  std::string table();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Passes scopes and kernels to NVTX ranges; free when no tool is attached. Does nothing in a CPU
/// build.
class NvtxSink final : public Sink {
 public:
  void enter_scope(std::string_view path, Direction direction) override;
  void leave_scope() override;
  void enter_kernel(std::string_view name, const Cost& cost, const Stream& stream) override;
  void leave_kernel(const Stream& stream) override;
};

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
