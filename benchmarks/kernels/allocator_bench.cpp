// SPDX-License-Identifier: MIT
// What CachingAllocator costs on the host when the cache serves a request: allocate and deallocate,
// one thread, on host memory that is never touched. The budget is 200 ns for a pair of 512 bytes to
// 64 MB. Run: allocator_bench --benchmark_repetitions=9 --benchmark_report_aggregates_only=true
#include "core/caching_allocator.h"
#include "core/host_memory.h"
#include "core/profile_scope.h"

#include <benchmark/benchmark.h>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

namespace lamina {
namespace {

constexpr StreamId kStream = 1;

/// One size, nothing else live.
void same_size(benchmark::State& state) {
  CachingAllocator allocator(host_memory());
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const ProfileScope scope("blocks.0.mlp.up");
  allocator.deallocate(allocator.allocate(bytes, kStream));
  for (auto _ : state) {
    void* block = allocator.allocate(bytes, kStream);
    benchmark::DoNotOptimize(block);
    allocator.deallocate(block);
  }
}

/// Many live and free blocks of mixed sizes in the same classes: what a request meets in a training
/// step.
void among_fragments(benchmark::State& state) {
  CachingAllocator allocator(host_memory());
  const auto bytes = static_cast<std::size_t>(state.range(0));
  std::mt19937_64 random(1);
  std::vector<void*> blocks;
  for (int i = 0; i < 1000; ++i) {
    blocks.push_back(allocator.allocate(bytes / 2 + random() % (2 * bytes), kStream));
  }
  for (std::size_t i = 0; i < blocks.size(); i += 2)
    allocator.deallocate(blocks[i]);
  const ProfileScope scope("blocks.0.mlp.up");
  for (auto _ : state) {
    void* block = allocator.allocate(bytes, kStream);
    benchmark::DoNotOptimize(block);
    allocator.deallocate(block);
  }
  for (std::size_t i = 1; i < blocks.size(); i += 2)
    allocator.deallocate(blocks[i]);
}

/// Forward and backward of a network: blocks of twelve layers are taken in order and freed in
/// reverse, and each pair comes from another scope. Time is per pair.
void layers(benchmark::State& state) {
  CachingAllocator allocator(host_memory());
  const std::vector<std::size_t> sizes = {512, 6 << 10, 100 << 10, 3 << 20, 12 << 20, 25 << 20};
  const std::vector<std::string_view> scopes = {"embedding", "blocks.0", "blocks.1", "blocks.2",
                                                "head"};
  std::vector<void*> saved;
  std::int64_t pairs = 0;
  for (auto _ : state) {
    for (int layer = 0; layer < 12; ++layer) {
      const ProfileScope scope(scopes[static_cast<std::size_t>(layer) % scopes.size()]);
      for (const std::size_t bytes : sizes)
        saved.push_back(allocator.allocate(bytes, kStream));
    }
    pairs += static_cast<std::int64_t>(saved.size());
    for (; !saved.empty(); saved.pop_back())
      allocator.deallocate(saved.back());
  }
  state.counters["per_pair"] = benchmark::Counter(
      static_cast<double>(pairs), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

BENCHMARK(same_size)->RangeMultiplier(8)->Range(512, 64 << 20);
BENCHMARK(among_fragments)->Arg(512)->Arg(64 << 10)->Arg(512 << 10)->Arg(4 << 20);
BENCHMARK(layers);

}  // namespace
}  // namespace lamina

BENCHMARK_MAIN();
