// SPDX-License-Identifier: MIT
// Time stamps in a captured graph. Built only with CUDA: it calls the runtime's seam.
#include "core/cuda/runtime.h"
#include "core/kernel_times.h"
#include "core/kernels/fill.h"
#include "core/launch.h"
#include "core/tensor.h"
#include "tests/support/cuda_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace lamina {
namespace {

using CudaKernelTimes = testing::CudaTest;
using testing::kCuda;

TEST_F(CudaKernelTimes, KernelsThatFollowEachOtherShareATimeStamp) {
  const Tensor x = zeros({1 << 20}, DType::f32, kCuda);
  const Tensor host = zeros({1 << 20});
  const auto stream = std::get<CudaStream>(current_stream(kCuda));
  x.fill(0.0);  // loads the kernel
  KernelTimes times(kCuda);
  times.begin();
  cuda::begin_capture(stream);
  {
    const SinkScope hears(times);
    for (int i = 0; i < 5; ++i)
      x.fill(i);
    // Of no kernel: a copy, behind which a new stamp is needed.
    cuda::copy(x.slice(0, 0, 1 << 19).data(), kCuda, x.slice(0, 1 << 19, 1 << 20).data(), kCuda,
               std::size_t{4} << 19, stream);
    for (int i = 0; i < 3; ++i)
      x.fill(i);
  }
  const cuda::CapturedGraph graph = cuda::end_capture(stream);
  EXPECT_EQ(graph.nodes, 9U);
  const std::vector<void*> nodes = times.captured_nodes();
  ASSERT_EQ(nodes.size(), 6U + 4U);
  EXPECT_EQ(nodes.front(), nullptr);

  const Tensor on_device = zeros({10}, DType::i64, kCuda);
  const std::shared_ptr<std::uint64_t> on_host(
      static_cast<std::uint64_t*>(cuda::reserve_pinned(10 * sizeof(std::uint64_t))),
      cuda::release_pinned);
  void* const timed =
      cuda::instantiate_timed(graph.graph,
                              {.nodes = nodes,
                               .kernel = cuda::time_stamp_kernel(),
                               .on_device = reinterpret_cast<std::uint64_t*>(on_device.data()),
                               .on_host = on_host.get()},
                              stream);
  for (int i = 0; i < 3; ++i) {
    const std::shared_ptr<void> start = cuda::record_time(stream);
    cuda::launch_graph(timed, stream);
    const std::shared_ptr<void> stop = cuda::record_time(stream);
    cuda::launch_graph(graph.executable, stream);  // has no stamps: changes no time
    times.set_replay(on_host, TimePoint{.host = {}, .event = stop});
    const std::vector<ProfileRow> rows = times.rows();
    EXPECT_TRUE(cuda::has_passed(stop.get()));
    EXPECT_TRUE(std::is_sorted(on_host.get(), on_host.get() + 10));
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].calls, 8.0);
    EXPECT_GT(rows[0].ms, 0.0);
    EXPECT_LT(rows[0].ms, cuda::elapsed_ms(start.get(), stop.get()));
    EXPECT_EQ(x.slice(0, 0, 1).item<float>(), 2.0F);
  }
  cuda::destroy_executable(timed, stream);
  cuda::destroy_executable(graph.executable, stream);
  cuda::destroy_graph(graph.graph);
}

}  // namespace
}  // namespace lamina
