// SPDX-License-Identifier: MIT
#include "core/step_graph.h"

#include "core/caching_allocator.h"
#include "core/error.h"
#include "core/kernel_times.h"
#include "core/kernels/counter.h"
#include "core/launch.h"
#include "core/profile_scope.h"
#include "core/storage.h"
#include "core/tensor.h"
#include "core/text.h"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

StepGraph::StepGraph(Device device, int warm_up)
    : device_(device), stream_(current_stream(device)), warm_up_(warm_up) {
  if (warm_up < 1) {
    throw Error(cat("step graph: warm_up is ", warm_up,
                    ", expected at least 1 (it brings the memory that a capture cannot ask for)"));
  }
#if LAMINA_WITH_CUDA
  if (!device.is_cuda()) return;
  pool_ = new_allocator(device);
  shift_ = std::make_unique<Tensor>(zeros({1}, DType::i64, device));
#endif
}

#if LAMINA_WITH_CUDA
StepGraph::~StepGraph() {
  for (void* executable : {captured_, timed_}) {
    if (executable != nullptr) cuda::destroy_executable(executable, std::get<CudaStream>(stream_));
  }
  if (graph_ != nullptr) cuda::destroy_graph(graph_);
  if (!pool_) return;
  pool_->set_reserve_allowed(true);
  pool_->trim();
  // Tensors of the step that live on give their memory back to it.
  if (pool_->stats().live > 0) static_cast<void>(pool_.release());
}
#else
StepGraph::~StepGraph() = default;
#endif

// To be called outside of the pool's scope.
std::size_t StepGraph::live_elsewhere() const {
  return pool_ ? current_allocator(device_).stats().live : 0;
}

AllocatorStats StepGraph::memory() const {
  return pool_ ? pool_->stats() : AllocatorStats();
}

void StepGraph::expect_own_stream() const {
  if (current_stream(device_) == stream_) return;
  throw Error(
      "step graph: the current stream is another one than when it was made, expected the same "
      "(kernels on another stream would not be recorded)");
}

void StepGraph::run(const std::function<void()>& step) {
  expect_own_stream();
  if (is_recorded(step)) return replay(captured_);
  run_eagerly(step);
  count_warm_up();
}

/// Whether there is a recording to replay; makes it when its time has come.
bool StepGraph::is_recorded(const std::function<void()>& step) {
  if (captured_ != nullptr) return true;
  if (!pool_ || warm_up_ > 0) return false;
  capture(step);
  return true;
}

/// A step that threw does not count: it may not have brought all its memory.
void StepGraph::count_warm_up() {
  if (warm_up_ > 0) --warm_up_;
}

void StepGraph::run_eagerly(const std::function<void()>& step) {
  expect_own_stream();
  if (!pool_) return step();
  const AllocatorScope memory(device_, *pool_);
  step();
}

void StepGraph::run_timed(const std::function<void()>& step, KernelTimes& times) {
  expect_own_stream();
  if (is_recorded(step)) {
    prepare_timed();
    replay(timed_);
    times = *recorded_;
    times.set_replay(times_, time_on(stream_));
    return;
  }
  const std::size_t elsewhere = live_elsewhere();
  run_eagerly([&] {
    times.begin(elsewhere);
    const SinkScope hears(times);
    step();
  });
  count_warm_up();
}

#if LAMINA_WITH_CUDA
namespace {

/// For the time of a capture: the thread's sink, whose events could not be read, gives way to that
/// of the recording, and there is no new memory. What the step threw leaves stream and memory as
/// they were.
class CaptureScope {
 public:
  CaptureScope(CudaStream stream, CachingAllocator& pool, Sink& sink)
      : stream_(stream), pool_(pool), sink_(exchange_sink(&sink)) {
    pool_.set_reserve_allowed(false);
  }

  ~CaptureScope() {
    exchange_sink(sink_);
    if (is_done_) return;
    if (has_begun_) cuda::abandon_capture(stream_);
    pool_.set_reserve_allowed(true);
  }

  CaptureScope(const CaptureScope&) = delete;
  CaptureScope& operator=(const CaptureScope&) = delete;

  void begin() {
    cuda::begin_capture(
        stream_);  // throws when somebody else is capturing: then it is not ours to end
    has_begun_ = true;
  }

  void done() { is_done_ = true; }

 private:
  CudaStream stream_;
  CachingAllocator& pool_;
  Sink* sink_;
  bool has_begun_ = false, is_done_ = false;
};

/// Puts a generator back to where it was: a capture runs nothing.
class GeneratorReset {
 public:
  explicit GeneratorReset(Generator& generator) : generator_(generator), before_(generator) {}

  ~GeneratorReset() { generator_ = before_; }

  GeneratorReset(const GeneratorReset&) = delete;
  GeneratorReset& operator=(const GeneratorReset&) = delete;

 private:
  Generator& generator_;
  Generator before_;
};

}  // namespace

void StepGraph::capture(const std::function<void()>& step) {
  const auto stream = std::get<CudaStream>(stream_);
  const std::size_t elsewhere = live_elsewhere();
  const AllocatorScope memory(device_, *pool_);
  Generator& generator = default_generator();
  const GeneratorReset reset(generator);
  seed_ = generator.seed();
  first_offset_ = generator.offset();
  auto recorded = std::make_unique<KernelTimes>(device_);
  recorded->begin(elsewhere);
  CaptureScope scope(stream, *pool_, *recorded);
  scope.begin();
  {
    const ShiftScope shifts(generator, reinterpret_cast<const std::uint64_t*>(shift_->data()));
    step();
  }
  drawn_ = generator.offset() - first_offset_;
  if (drawn_ > 0) {
    launch(stream_,
           kernels::Increment{.counter = flat(*shift_), .by = static_cast<std::int64_t>(drawn_)});
  }
  const cuda::CapturedGraph graph = cuda::end_capture(stream);
  graph_ = graph.graph;
  captured_ = graph.executable;
  nodes_ = graph.nodes;
  recorded_ = std::move(recorded);
  scope.done();
}

void StepGraph::prepare_timed() {
  if (captured_ == nullptr || timed_ != nullptr) return;
  if (times_on_device_) {
    throw Error(
        "step graph: putting time stamps into it has failed before, expected no further attempt "
        "(some of them are in it); make a new StepGraph");
  }
  const std::vector<void*>& nodes = recorded_->captured_nodes();
  const std::size_t count = std::max<std::size_t>(nodes.size(), 1);  // a step may have no kernel
  times_on_device_ =
      std::make_unique<Tensor>(empty({static_cast<std::int64_t>(count)}, DType::i64, device_));
  times_ = {static_cast<std::uint64_t*>(cuda::reserve_pinned(count * sizeof(std::uint64_t))),
            cuda::release_pinned};
  timed_ = cuda::instantiate_timed(
      graph_,
      {.nodes = nodes,
       .kernel = cuda::time_stamp_kernel(),
       .on_device = reinterpret_cast<std::uint64_t*>(times_on_device_->data()),
       .on_host = times_.get()},
      std::get<CudaStream>(stream_));
}

void StepGraph::replay(void* executable) {
  Generator& generator = default_generator();
  if (drawn_ > 0) {
    if (generator.seed() != seed_) {
      throw Error(cat("step graph: the default generator has seed ", generator.seed(),
                      ", expected ", seed_, " (that of the capture); make a new StepGraph"));
    }
    const std::uint64_t shift = generator.offset() - first_offset_;
    if (shift != device_shift_) {  // others drew from the generator since the last replay
      launch(stream_, kernels::Increment{.counter = flat(*shift_),
                                         .by = static_cast<std::int64_t>(shift - device_shift_)});
    }
    generator.skip(drawn_);
    device_shift_ = shift + drawn_;
  }
  cuda::launch_graph(executable, std::get<CudaStream>(stream_));
}
#else
void StepGraph::capture(const std::function<void()>& /*step*/) {}

void StepGraph::prepare_timed() {}

void StepGraph::replay(void* /*executable*/) {}
#endif

}  // namespace lamina
