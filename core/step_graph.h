// SPDX-License-Identifier: MIT
// StepGraph: work that is the same every time (a training step) queued as one CUDA graph instead of
// kernel by kernel, so that the host has next to nothing to do and kernels follow each other
// sooner. The replay gives the bits of the eager step.
#pragma once

#include "core/allocator_stats.h"
#include "core/device.h"
#include "core/random.h"
#include "core/stream.h"

#include <cstddef>
#include <functional>
#include <memory>

namespace lamina {

class CachingAllocator;
class KernelTimes;
class Tensor;

class StepGraph {
 public:
  /// `warm_up` steps run eagerly before the capture: they load kernels, make plans, and bring to
  /// the graph's own memory all that the step needs. One that throws does not count.
  explicit StepGraph(Device device, int warm_up = 2);
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  /// Does what `step` does. After the warm-up one call of `step` is recorded; from then on the
  /// recording is replayed and `step` is not called. So it must be the same each time: the same
  /// kernels on the same tensors. What changes must be read from tensors that live outside (token
  /// ids, the optimizer's StepState); random numbers of the default generator do change, those of
  /// others throw. Tensors made by `step` keep their addresses and are overwritten by the next
  /// call. Host code in `step` that reads the device, or copies host memory to it, throws. On the
  /// CPU every call runs `step`.
  /// Throws Error when the default generator got another seed after the capture of a step that
  /// draws from it, and under another current stream than the graph was made under; what `step`
  /// throws while it is recorded leaves nothing recorded. No other thread may use that stream
  /// meanwhile: its work would be recorded as well. By default it is the process's stream of the
  /// device.
  void run(const std::function<void()>& step);

  /// Runs `step` eagerly, in the graph's memory: to look at single kernels. Replays can go on
  /// afterwards, and may then write to any tensor that `step` made here.
  void run_eagerly(const std::function<void()>& step);

  /// run(), and `times` hears the kernels of this step; what it held before is gone. A recorded
  /// step is replayed with a time stamp behind each kernel: the same kernels on the same memory, so
  /// the same bits. run() goes on without stamps. The times must be read before the next call.
  void run_timed(const std::function<void()>& step, KernelTimes& times);

  /// Puts time stamps into a recorded step, once: so that the first run_timed() takes no longer
  /// than those after it.
  void prepare_timed();

  /// Kernels and copies of the recording; 0 without one.
  std::size_t nodes() const { return nodes_; }

  /// What the memory of the step comes from; nullptr on the CPU.
  CachingAllocator* pool() const { return pool_.get(); }

  /// Of the memory that belongs to the step. Nothing on the CPU.
  AllocatorStats memory() const;

 private:
  void expect_own_stream() const;
  std::size_t live_elsewhere() const;
  bool is_recorded(const std::function<void()>& step);
  void count_warm_up();
  void capture(const std::function<void()>& step);
  void replay(void* executable);

  Device device_;
  Stream stream_;
  int warm_up_;                             // eager steps to come
  std::unique_ptr<CachingAllocator> pool_;  // nullptr on the CPU
  std::unique_ptr<Tensor> shift_;  // of random offsets since the capture: i64, on the device
  std::uint64_t seed_ = 0, first_offset_ = 0, drawn_ = 0;  // of the generator, and per step
  std::uint64_t device_shift_ = 0;                         // what shift_ will hold
  void *graph_ = nullptr, *captured_ = nullptr, *timed_ = nullptr;  // of CUDA; the last two run
  std::unique_ptr<KernelTimes> recorded_;                           // kernels of the graph
  std::unique_ptr<Tensor> times_on_device_;  // of timed_, and where it copies them to
  std::shared_ptr<std::uint64_t> times_;
  std::size_t nodes_ = 0;
};

}  // namespace lamina
