// SPDX-License-Identifier: MIT
#include "benchmarks/kernels/cold_timer.h"

#include "core/cuda/check.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace lamina::bench {
namespace {

/// The end of a capture, also when a call throws in the middle of it.
class Capture {
 public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    LAMINA_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  }

  ~Capture() {
    if (is_open_) cudaStreamEndCapture(stream_, &graph_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }

  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraph_t end() {
    is_open_ = false;
    LAMINA_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph_));
    return graph_;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  bool is_open_ = true;
};

class GraphExec {
 public:
  GraphExec(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    LAMINA_CUDA_CHECK(cudaGraphInstantiate(&exec_, graph, 0));
  }

  ~GraphExec() { cudaGraphExecDestroy(exec_); }

  GraphExec(const GraphExec&) = delete;
  GraphExec& operator=(const GraphExec&) = delete;

  void replay() const { LAMINA_CUDA_CHECK(cudaGraphLaunch(exec_, stream_)); }

 private:
  cudaGraphExec_t exec_ = nullptr;
  cudaStream_t stream_;
};

/// Points in time on a stream.
class Marks {
 public:
  explicit Marks(int count) : events_(static_cast<std::size_t>(count)) {
    for (cudaEvent_t& event : events_)
      LAMINA_CUDA_CHECK(cudaEventCreate(&event));
  }

  ~Marks() {
    for (cudaEvent_t event : events_)
      cudaEventDestroy(event);
  }

  Marks(const Marks&) = delete;
  Marks& operator=(const Marks&) = delete;

  void record(int mark, cudaStream_t stream) const {
    LAMINA_CUDA_CHECK(cudaEventRecord(at(mark), stream));
  }

  double us_since(int mark, int earlier) const {
    float ms = 0;
    LAMINA_CUDA_CHECK(cudaEventElapsedTime(&ms, at(earlier), at(mark)));
    return 1e3 * static_cast<double>(ms);
  }

 private:
  cudaEvent_t at(int mark) const { return events_[static_cast<std::size_t>(mark)]; }

  std::vector<cudaEvent_t> events_;
};

/// Nearest rank of sorted values.
double quantile(const std::vector<double>& sorted, double fraction) {
  return sorted[static_cast<std::size_t>(
      std::lround(fraction * static_cast<double>(sorted.size() - 1)))];
}

/// Enough for the least duration if a call takes 2 us or as long as 4 TB/s allow.
int calls_per_replay(int sets, std::int64_t bytes_per_call, double least_replay_us) {
  const double us = std::max(2.0, static_cast<double>(bytes_per_call) / 4e6);
  const int rounds = static_cast<int>(std::ceil(least_replay_us / us / sets));
  return sets * std::max(1, rounds);
}

}  // namespace

int sets_for(Regime regime, std::int64_t bytes_per_set, CudaStream stream) {
  if (regime == Regime::hot) return 1;
  int cache_bytes = 0;
  LAMINA_CUDA_CHECK(cudaDeviceGetAttribute(&cache_bytes, cudaDevAttrL2CacheSize, stream.device));
  const std::int64_t sets =
      4 * std::int64_t{cache_bytes} / std::max<std::int64_t>(bytes_per_set, 1);
  return static_cast<int>(std::clamp<std::int64_t>(sets + 1, 2, 4096));
}

Timing time_calls(const std::function<void(int set)>& call, int sets, std::int64_t bytes_per_call,
                  CudaStream stream, const TimerOptions& options) {
  // Outside the graph first: modules load, attributes are set and errors show.
  call(0);
  LAMINA_CUDA_CHECK(cudaGetLastError());
  LAMINA_CUDA_CHECK(cudaStreamSynchronize(stream.handle));

  const int calls = calls_per_replay(sets, bytes_per_call, options.least_replay_us);
  Capture capture(stream.handle);
  for (int i = 0; i < calls; ++i) {
    call(i % sets);
    LAMINA_CUDA_CHECK(cudaGetLastError());
  }
  const GraphExec graph(capture.end(), stream.handle);

  // All replays are queued at once, so that the host's part of a launch is hidden behind the
  // replay before it.
  const Marks marks(options.replays + 1);
  for (int i = 0; i < std::max(1, options.warm_up_replays); ++i)
    graph.replay();
  marks.record(0, stream.handle);
  for (int i = 1; i <= options.replays; ++i) {
    graph.replay();
    marks.record(i, stream.handle);
  }
  LAMINA_CUDA_CHECK(cudaStreamSynchronize(stream.handle));

  std::vector<double> us;
  for (int i = 1; i <= options.replays; ++i)
    us.push_back(marks.us_since(i, i - 1) / calls);
  std::sort(us.begin(), us.end());
  return {.median_us = quantile(us, 0.5),
          .p20_us = quantile(us, 0.2),
          .p80_us = quantile(us, 0.8),
          .sets = sets,
          .calls = calls,
          .replays = options.replays};
}

Timing time_copy(const void* from, void* to, std::int64_t bytes, int sets, CudaStream stream,
                 const TimerOptions& options) {
  const std::int64_t pitch = copy_set_bytes(bytes);
  const auto from_of = [&](int set) { return static_cast<const std::byte*>(from) + set * pitch; };
  const auto to_of = [&](int set) { return static_cast<std::byte*>(to) + set * pitch; };
  const std::int64_t size = (bytes / 2 + 15) / 16 * 16;
  const Timing kernel =
      time_calls([&](int set) { copy_16_bytes_wide(from_of(set), to_of(set), size, stream); }, sets,
                 bytes, stream, options);
  const Timing runtime = time_calls(
      [&](int set) {
        LAMINA_CUDA_CHECK(cudaMemcpyAsync(to_of(set), from_of(set), static_cast<std::size_t>(size),
                                          cudaMemcpyDeviceToDevice, stream.handle));
      },
      sets, bytes, stream, options);
  return kernel.median_us < runtime.median_us ? kernel : runtime;
}

}  // namespace lamina::bench
