// SPDX-License-Identifier: MIT
// The profiler in a user's own training loop: work of the backward pass is booked on the layer that
// recorded it. The loop is the example of docs/profiling.md.
#include "core/profiler.h"

#include "autograd/recompute.h"
#include "nn/nn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace lamina {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

struct Net : Layer<Net> {
  nn::Linear& in = add<nn::Linear>("in", 4, 8);
  nn::LayerNorm& norm = add<nn::LayerNorm>("norm", 8);
  nn::Linear& out = add<nn::Linear>("out", 8, 1);

  Var forward(const Var& x) { return out(norm(in(x))); }
};

/// "layer kernel" of the rows of one direction.
std::set<std::string> kernels_of(const Profile& profile, Direction direction) {
  std::set<std::string> names;
  for (const ProfileRow& row : profile.rows) {
    if (row.direction == direction) names.insert(row.layer + " " + row.kernel);
  }
  return names;
}

TEST(Profiler, BooksBackwardWorkOnTheLayerThatRecordedIt) {
  seed(1);
  Net net;
  nn::AdamW optimizer(net.parameters(), {});
  const Tensor x = randn({16, 4}, default_generator());
  const auto train_step = [&] {
    const Var y = net(Var(x));
    backward(mean(y * y));
    optimizer.step();
    optimizer.zero_grad();
  };

  Profiler profiler(kCpu, {.every = 5});
  for (int i = 0; i < 20; ++i)
    profiler.step(train_step);

  const Profile profile = profiler.mean();
  EXPECT_EQ(profile.samples, 4);
  const std::set<std::string> backward_kernels = kernels_of(profile, Direction::backward);
  EXPECT_THAT(kernels_of(profile, Direction::forward),
              ::testing::IsSupersetOf({"in gemm", "norm layer_norm", "out gemm",
                                       "optimizer begin_step", "optimizer adamw"}));
  EXPECT_THAT(backward_kernels,
              ::testing::IsSupersetOf({"in gemm", "norm layer_norm_backward", "out gemm"}));
  EXPECT_THAT(backward_kernels, Not(Contains("out layer_norm_backward")));
  EXPECT_THAT(kernels_of(profile, Direction::forward), Not(Contains("norm gemm")));
  EXPECT_GT(profile.coverage(), 0.0);
  EXPECT_THAT(profiler.table(), HasSubstr("mean of 4 steps"));
}

TEST(Profiler, BooksRecomputedWorkOnItsLayersAsWell) {
  seed(1);
  Net net;
  const Tensor x = randn({16, 4}, default_generator());
  Profiler profiler(kCpu, {.every = 2});
  for (int i = 0; i < 2; ++i) {
    profiler.step([&] {
      const Var input = net.in(Var(x));
      const Var y = recompute({input}, [&](const std::vector<Var>& again) {
        return std::vector<Var>{net.out(net.norm(again[0]))};
      })[0];
      backward(mean(y));
      net.zero_grad();
    });
  }
  const Profile profile = profiler.mean();
  for (const ProfileRow& row : profile.rows) {
    if (row.layer != "norm") continue;
    // Forward twice, the second time in the backward pass.
    EXPECT_EQ(row.calls, row.kernel == "layer_norm" ? 2.0 : 1.0) << row.kernel;
  }
  EXPECT_THAT(kernels_of(profile, Direction::backward), Contains("norm layer_norm_backward"));
}

}  // namespace
}  // namespace lamina
