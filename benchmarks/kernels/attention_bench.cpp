// SPDX-License-Identifier: MIT
// Times attention on CUDA in bf16 at the shapes of GPT-2 and of wider heads: device time of ten
// launches between two events, after one launch to warm up. FLOP/s is what the contract's cost()
// makes of it. Run: attention_bench --benchmark_repetitions=9
// --benchmark_report_aggregates_only=true
#include "core/cuda/runtime.h"
#include "core/kernels/attention.h"
#include "core/launch.h"
#include "core/random.h"
#include "core/tensor.h"

#include <algorithm>
#include <benchmark/benchmark.h>
#include <cmath>
#include <cstdint>
#include <variant>

namespace lamina::kernels {
namespace {

constexpr Device kCuda{DeviceKind::cuda, 0};
constexpr int kLaunches = 10;  // per measurement

/// Values of about unit variance: zeros would let the GPU clock higher than real data does. They
/// repeat after a prime number of elements, as making them takes the host longer than timing does.
Tensor values(std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kPeriod = 1000003;
  const std::int64_t size = rows * cols;
  const Tensor all = empty({size}, DType::bf16, kCuda);
  Generator generator(1337);
  std::int64_t filled = std::min(kPeriod, size);
  all.slice(0, 0, filled).copy_from(uniform({filled}, -1.75, 1.75, generator, DType::bf16));
  while (filled < size) {
    const std::int64_t more = std::min(filled, size - filled);
    all.slice(0, filled, filled + more).copy_from(all.slice(0, 0, more));
    filled += more;
  }
  return all.reshape({rows, cols});
}

/// The operands of both passes.
struct Operands {
  explicit Operands(const benchmark::State& state)
      : shape{.batch = state.range(0),
              .time = state.range(1),
              .heads = state.range(2),
              .head_size = state.range(3),
              .scale = 1.0F / std::sqrt(static_cast<float>(state.range(3))),
              .causal = state.range(4) != 0,
              .drop_p = static_cast<float>(state.range(5)) / 100.0F,
              .key = {.seed = 1337, .offset = 0}},
        qkv(values(shape.batch * shape.time, 3 * shape.heads * shape.head_size)),
        out(empty({shape.batch * shape.time, shape.heads * shape.head_size}, DType::bf16, kCuda)),
        lse(empty({shape.batch * shape.heads * shape.time}, DType::f32, kCuda)) {}

  Attention forward() const {
    return {.shape = shape, .qkv = rows(qkv), .out = rows(out), .lse = flat(lse)};
  }

  AttentionShape shape;
  Tensor qkv, out, lse;
};

/// Gives `args` a workspace and times it.
template <class Args>
void time_launches(benchmark::State& state, Args args) {
  const Stream stream = current_stream(kCuda);
  const Tensor workspace = empty({workspace_bytes_of(stream, args)}, DType::u8, kCuda);
  args.workspace = flat(workspace);
  launch(stream, args);
  const auto cuda_stream = std::get<CudaStream>(stream);
  for (auto _ : state) {
    const auto start = cuda::record_time(cuda_stream);
    for (int i = 0; i < kLaunches; ++i) {
      launch(stream, args);
    }
    const auto stop = cuda::record_time(cuda_stream);
    state.SetIterationTime(cuda::elapsed_ms(start.get(), stop.get()) * 1e-3 / kLaunches);
  }
  state.counters["FLOP/s"] = benchmark::Counter(static_cast<double>(args.cost().flops),
                                                benchmark::Counter::kIsIterationInvariantRate);
}

void attention(benchmark::State& state) {
  const Operands operands(state);
  time_launches(state, operands.forward());
}

void attention_backward(benchmark::State& state) {
  const Operands operands(state);
  Attention forward = operands.forward();
  const Stream stream = current_stream(kCuda);
  const Tensor workspace = empty({workspace_bytes_of(stream, forward)}, DType::u8, kCuda);
  forward.workspace = flat(workspace);
  launch(stream, forward);
  const Tensor dout = values(forward.out.rows, forward.out.cols);
  const Tensor dqkv = empty_like(operands.qkv);
  time_launches(state, AttentionBackward{.shape = operands.shape,
                                         .qkv = forward.qkv,
                                         .out = forward.out,
                                         .lse = forward.lse,
                                         .dout = rows(dout),
                                         .dqkv = rows(dqkv),
                                         .write = GradWrite::overwrite});
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"batch", "time", "heads", "head_size", "causal", "drop_percent"});
  bench->UseManualTime()->Unit(benchmark::kMicrosecond);
  bench->Args({64, 1024, 12, 64, 1, 0});
  bench->Args({64, 1024, 12, 64, 1, 10});
  bench->Args({16, 1024, 12, 64, 1, 0});
  bench->Args({4, 1024, 12, 64, 1, 0});
  bench->Args({16, 1024, 25, 64, 1, 0});
  bench->Args({16, 1024, 12, 64, 0, 0});
  bench->Args({4, 4096, 12, 64, 1, 0});
  bench->Args({64, 256, 6, 64, 1, 20});
  bench->Args({16, 1024, 16, 96, 1, 0});
  bench->Args({16, 1024, 16, 128, 1, 0});
  bench->Args({4, 4096, 16, 128, 1, 0});
}

BENCHMARK(attention)->Apply(shapes);
BENCHMARK(attention_backward)->Apply(shapes);

}  // namespace
}  // namespace lamina::kernels

BENCHMARK_MAIN();
