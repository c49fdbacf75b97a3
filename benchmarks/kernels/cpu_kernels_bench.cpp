// SPDX-License-Identifier: MIT
// Times the CPU kernels at the shapes of a small GPT: 2048 tokens of width 128, 4 heads of 32, 128
// tokens per sequence, 96 classes, f32. Counters are what the contracts' cost() makes of the time.
#include "core/kernels/adamw.h"
#include "core/kernels/attention.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/dropout.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/embedding.h"
#include "core/kernels/gemm.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/reduce.h"
#include "core/kernels/softmax.h"

#include <algorithm>
#include <benchmark/benchmark.h>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

namespace lamina::kernels {
namespace {

constexpr std::int64_t kTokens = 2048, kWidth = 128, kTime = 128, kHeads = 4, kClasses = 96;

/// Owns the memory of the views that it hands out. Values lie between -0.5 and 0.5.
class Arena {
 public:
  Rows rows(std::int64_t rows, std::int64_t cols) {
    return {.data = floats(rows * cols), .rows = rows, .cols = cols, .stride = cols};
  }

  Flat flat(std::int64_t size) { return {.data = floats(size), .size = size}; }

  Flat indices(std::int64_t size) {
    Flat view = flat(size);
    view.dtype = DType::i32;
    for (std::int64_t i = 0; i < size; ++i) {
      view.as<std::int32_t>()[i] = static_cast<std::int32_t>(i * 31 % kClasses);
    }
    return view;
  }

  Flat bytes(std::int64_t size) {
    Flat view = flat(size / 4 + 1);
    view.size = size;
    view.dtype = DType::u8;
    return view;
  }

 private:
  float* floats(std::int64_t count) {
    auto& block = blocks_.emplace_back(static_cast<std::size_t>(count) + 16);
    for (std::size_t i = 0; i < block.size(); ++i) {
      block[i] = static_cast<float>(i * 7919 % 1009) / 1009.0F - 0.5F;
    }
    return block.data();
  }

  std::deque<std::vector<float>> blocks_;
};

/// Runs the kernel until the clock is satisfied; reports GFLOP/s and GB/s.
template <class Args>
void measure(benchmark::State& state, Arena& arena, Args args) {
  if constexpr (requires { workspace_bytes(args, CpuStream{}); }) {
    args.workspace = arena.bytes(workspace_bytes(args, CpuStream{}));
  }
  for (auto _ : state)
    run(args, CpuStream{});
  const auto runs = static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(
      runs * static_cast<double>(args.cost().flops) * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(runs * static_cast<double>(args.cost().bytes) * 1e-9,
                                              benchmark::Counter::kIsRate);
}

/// Arguments: m, n, k, transpose_a, transpose_b, GELU.
void gemm(benchmark::State& state) {
  Arena arena;
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const bool transpose_a = state.range(3) != 0, transpose_b = state.range(4) != 0;
  const bool gelu = state.range(5) != 0;
  measure(state, arena,
          Gemm{.a = transpose_a ? arena.rows(k, m) : arena.rows(m, k),
               .b = transpose_b ? arena.rows(n, k) : arena.rows(k, n),
               .d = arena.rows(m, n),
               .transpose_a = transpose_a,
               .transpose_b = transpose_b,
               .bias = gelu ? arena.flat(n) : Flat{},
               .has_activation = gelu,
               .pre_activation = gelu ? arena.rows(m, n) : Rows{}});
}

void layer_norm(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          LayerNorm{.x = arena.rows(kTokens, kWidth),
                    .residual = arena.rows(kTokens, kWidth),
                    .weight = arena.flat(kWidth),
                    .bias = arena.flat(kWidth),
                    .sum = arena.rows(kTokens, kWidth),
                    .y = arena.rows(kTokens, kWidth),
                    .mean = arena.flat(kTokens),
                    .rstd = arena.flat(kTokens),
                    .eps = 1e-5,
                    .drop_p = static_cast<float>(state.range(0)) * 0.01F});
}

void layer_norm_backward(benchmark::State& state) {
  Arena arena;
  const bool drop = state.range(0) != 0;
  measure(state, arena,
          LayerNormBackward{.x = arena.rows(kTokens, kWidth),
                            .dy = arena.rows(kTokens, kWidth),
                            .dsum = arena.rows(kTokens, kWidth),
                            .weight = arena.flat(kWidth),
                            .mean = arena.flat(kTokens),
                            .rstd = arena.flat(kTokens),
                            .dx = arena.rows(kTokens, kWidth),
                            .dx_drop = drop ? arena.rows(kTokens, kWidth) : Rows{},
                            .dweight = arena.flat(kWidth),
                            .dbias = arena.flat(kWidth),
                            .column_sum = arena.flat(kWidth),
                            .drop_p = static_cast<float>(state.range(0)) * 0.01F});
}

void activation_backward(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          ActivationBackward{.x = arena.rows(kTokens, 4 * kWidth),
                             .dy = arena.rows(kTokens, 4 * kWidth),
                             .dx = arena.rows(kTokens, 4 * kWidth),
                             .kind = ActivationKind::gelu_tanh,
                             .write = GradWrite::overwrite});
}

AttentionShape attention_shape(const benchmark::State& state) {
  return {.batch = kTokens / kTime,
          .time = kTime,
          .heads = kHeads,
          .head_size = kWidth / kHeads,
          .scale = 0.1767767F,
          .causal = true,
          .drop_p = static_cast<float>(state.range(0)) * 0.01F};
}

void attention(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          Attention{.shape = attention_shape(state),
                    .qkv = arena.rows(kTokens, 3 * kWidth),
                    .out = arena.rows(kTokens, kWidth),
                    .lse = arena.flat(kTokens * kHeads)});
}

void attention_backward(benchmark::State& state) {
  Arena arena;
  AttentionBackward args{.shape = attention_shape(state),
                         .qkv = arena.rows(kTokens, 3 * kWidth),
                         .out = arena.rows(kTokens, kWidth),
                         .lse = arena.flat(kTokens * kHeads),
                         .dout = arena.rows(kTokens, kWidth),
                         .dqkv = arena.rows(kTokens, 3 * kWidth),
                         .write = GradWrite::overwrite};
  std::fill_n(args.lse.as<float>(), args.lse.size, 5.0F);
  measure(state, arena, args);
}

void cross_entropy(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          CrossEntropy{.logits = arena.rows(kTokens, kClasses),
                       .targets = arena.indices(kTokens),
                       .classes = kClasses,
                       .ignore_index = -1,
                       .losses = arena.flat(kTokens),
                       .lse = arena.flat(kTokens),
                       .loss = arena.flat(1),
                       .count = arena.flat(1)});
}

void cross_entropy_backward(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          CrossEntropyBackward{.logits = arena.rows(kTokens, kClasses),
                               .targets = arena.indices(kTokens),
                               .classes = kClasses,
                               .ignore_index = -1,
                               .lse = arena.flat(kTokens),
                               .count = arena.flat(1),
                               .dloss = arena.flat(1),
                               .dlogits = arena.rows(kTokens, kClasses),
                               .write = GradWrite::overwrite});
}

void softmax(benchmark::State& state) {
  Arena arena;
  measure(state, arena, Softmax{.x = arena.rows(kTokens, kTime), .y = arena.rows(kTokens, kTime)});
}

void embedding(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          Embedding{.tokens = arena.indices(kTokens),
                    .table = arena.rows(kClasses, kWidth),
                    .y = arena.rows(kTokens, kWidth)});
}

void embedding_backward(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          EmbeddingBackward{.tokens = arena.indices(kTokens),
                            .dy = arena.rows(kTokens, kWidth),
                            .dtable = arena.rows(kClasses, kWidth),
                            .write = GradWrite::overwrite});
}

void dropout(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          Dropout{.x = arena.rows(kTokens, kWidth), .y = arena.rows(kTokens, kWidth), .p = 0.1F});
}

void add(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          Add{.a = arena.rows(kTokens, kWidth),
              .b = arena.rows(kTime, kWidth),
              .y = arena.rows(kTokens, kWidth)});
}

/// Argument: columns.
void column_sum(benchmark::State& state) {
  Arena arena;
  measure(state, arena,
          ColumnSum{.x = arena.rows(kTokens, state.range(0)),
                    .y = arena.rows(1, state.range(0)),
                    .write = GradWrite::overwrite});
}

constexpr std::int64_t kParameters = 820'000;  // of four layers of width 128

void adamw(benchmark::State& state) {
  Arena arena;
  const StepState step{.lr = 1e-3F};
  const Flat bytes = arena.bytes(static_cast<std::int64_t>(sizeof(step)));
  std::memcpy(bytes.data, &step, sizeof(step));
  AdamW args{.weights = arena.flat(kParameters),
             .grads = arena.flat(kParameters),
             .m = arena.flat(kParameters),
             .v = arena.flat(kParameters),
             .state = bytes,
             .decayed = kParameters / 2,
             .beta1 = 0.9F,
             .beta2 = 0.99F,
             .eps = 1e-8F,
             .weight_decay = 0.1F};
  std::fill_n(args.v.as<float>(), kParameters, 0.5F);
  measure(state, arena, args);
}

void begin_step(benchmark::State& state) {
  Arena arena;
  const StepState step{};
  const Flat bytes = arena.bytes(static_cast<std::int64_t>(sizeof(step)));
  std::memcpy(bytes.data, &step, sizeof(step));
  measure(state, arena,
          BeginStep{.grads = arena.flat(kParameters),
                    .state = bytes,
                    .scale = 1.0F,
                    .max_norm = 1.0F,
                    .beta1 = 0.9F,
                    .beta2 = 0.99F});
}

void register_benchmark(const char* name, void (*function)(benchmark::State&),
                        const std::vector<std::vector<std::int64_t>>& arguments = {{0}}) {
  auto* const registered = benchmark::RegisterBenchmark(name, function);
  registered->UseRealTime()->Unit(benchmark::kMillisecond);
  for (const auto& list : arguments)
    registered->Args(list);
}

}  // namespace
}  // namespace lamina::kernels

int main(int argc, char** argv) {
  using namespace lamina::kernels;
  register_benchmark("gemm", gemm,
                     {{2048, 512, 128, 0, 1, 0},
                      {2048, 512, 128, 0, 1, 1},
                      {2048, 128, 512, 0, 1, 0},
                      {2048, 384, 128, 0, 1, 0},
                      {2048, 128, 128, 0, 1, 0},
                      {2048, 96, 128, 0, 1, 0},
                      {2048, 128, 512, 0, 0, 0},
                      {512, 128, 2048, 1, 0, 0},
                      {128, 512, 2048, 1, 0, 0},
                      {384, 128, 2048, 1, 0, 0},
                      {128, 128, 2048, 1, 0, 0},
                      {96, 128, 2048, 1, 0, 0}});
  register_benchmark("attention", attention, {{0}, {10}});
  register_benchmark("attention_backward", attention_backward, {{0}, {10}});
  register_benchmark("layer_norm", layer_norm, {{0}, {10}});
  register_benchmark("layer_norm_backward", layer_norm_backward, {{0}, {10}});
  register_benchmark("activation_backward", activation_backward);
  register_benchmark("cross_entropy", cross_entropy);
  register_benchmark("cross_entropy_backward", cross_entropy_backward);
  register_benchmark("softmax", softmax);
  register_benchmark("embedding", embedding);
  register_benchmark("embedding_backward", embedding_backward);
  register_benchmark("dropout", dropout);
  register_benchmark("add", add);
  register_benchmark("column_sum", column_sum, {{128}, {512}});
  register_benchmark("adamw", adamw);
  register_benchmark("begin_step", begin_step);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
