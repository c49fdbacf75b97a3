// SPDX-License-Identifier: MIT
#include "core/step_graph.h"

#include "core/caching_allocator.h"
#include "core/error.h"
#include "core/kernels/counter.h"
#include "core/launch.h"
#include "core/profiler.h"
#include "core/storage.h"
#include "core/tensor.h"
#include "core/text.h"

#include <variant>
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
  if (captured_ != nullptr) cuda::destroy_graph(captured_, std::get<CudaStream>(stream_));
  if (!pool_) return;
  pool_->set_reserve_allowed(true);
  pool_->trim();
  // Tensors of the step that live on give their memory back to it.
  if (pool_->stats().live > 0) static_cast<void>(pool_.release());
}
#else
StepGraph::~StepGraph() = default;
#endif

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
  if (captured_ != nullptr) return replay();
  if (!pool_ || warm_up_ > 0) {
    --warm_up_;
    return run_eagerly(step);
  }
  capture(step);
  replay();
}

void StepGraph::run_eagerly(const std::function<void()>& step) {
  expect_own_stream();
  if (!pool_) return step();
  const AllocatorScope memory(device_, *pool_);
  step();
}

#if LAMINA_WITH_CUDA
namespace {

/// For the time of a capture: no sink, whose events could not be read, and no new memory. What the
/// step threw leaves stream and memory as they were.
class CaptureScope {
 public:
  CaptureScope(CudaStream stream, CachingAllocator& pool)
      : stream_(stream), pool_(pool), sink_(exchange_sink(nullptr)) {
    pool_.set_reserve_allowed(false);
  }

  ~CaptureScope() {
    exchange_sink(sink_);
    if (is_done_) return;
    cuda::abandon_capture(stream_);
    pool_.set_reserve_allowed(true);
  }

  CaptureScope(const CaptureScope&) = delete;
  CaptureScope& operator=(const CaptureScope&) = delete;

  void done() { is_done_ = true; }

 private:
  CudaStream stream_;
  CachingAllocator& pool_;
  Sink* sink_;
  bool is_done_ = false;
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
  const AllocatorScope memory(device_, *pool_);
  Generator& generator = default_generator();
  const GeneratorReset reset(generator);
  seed_ = generator.seed();
  first_offset_ = generator.offset();
  CaptureScope scope(stream, *pool_);
  cuda::begin_capture(stream);
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
  captured_ = graph.executable;
  nodes_ = graph.nodes;
  scope.done();
}

void StepGraph::replay() {
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
  cuda::launch_graph(captured_, std::get<CudaStream>(stream_));
}
#else
void StepGraph::capture(const std::function<void()>& /*step*/) {}

void StepGraph::replay() {}
#endif

}  // namespace lamina
