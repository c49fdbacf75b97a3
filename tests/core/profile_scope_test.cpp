// SPDX-License-Identifier: MIT
#include "core/profile_scope.h"

#include "core/error.h"
#include "core/launch.h"
#include "core/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lamina {
namespace {

using ::testing::ElementsAre;

// Writes down what a sink is told.
class Recorder final : public Sink {
 public:
  void enter_scope(std::string_view path, Direction direction) override {
    events.push_back(cat(direction == Direction::forward ? "> " : "< ", path));
  }

  void leave_scope() override { events.emplace_back("end"); }

  void enter_kernel(std::string_view name, const Cost& cost, const Stream& /*stream*/) override {
    events.push_back(cat(name, " ", cost.bytes, " B in ", current_scope()));
    EXPECT_EQ(current_kernel(), name);
  }

  void leave_kernel(const Stream& /*stream*/) override { events.emplace_back("done"); }

  std::vector<std::string> events;
};

TEST(ProfileScope, NestsAndRestoresThePath) {
  EXPECT_EQ(current_scope(), "");
  {
    const ProfileScope outer("blocks.0");
    const ProfileScope inner(std::string("blocks.0.mlp"), Direction::backward);
    EXPECT_EQ(current_scope(), "blocks.0.mlp");
    EXPECT_EQ(current_direction(), Direction::backward);
  }
  EXPECT_EQ(current_scope(), "");
  EXPECT_EQ(current_direction(), Direction::forward);
}

TEST(ProfileScope, KeepsThePathAliveAfterTheScope) {
  std::string_view path;
  {
    const ProfileScope scope(std::string("a path that is too long for the small buffer"));
    path = current_scope();
  }
  EXPECT_EQ(path, "a path that is too long for the small buffer");
}

TEST(Sink, HearsScopesAndKernelsInOrder) {
  Recorder recorder;
  {
    const SinkScope installed(recorder);
    const ProfileScope scope("layer");
    (void)full({4, 8}, 1.0);
  }
  (void)full({4, 8}, 1.0);  // not heard any more
  EXPECT_THAT(recorder.events, ElementsAre("> layer", "fill 128 B in layer", "done", "end"));
  EXPECT_EQ(current_kernel(), "");
}

TEST(Sink, HearsTheEndOfWhatAnExceptionLeaves) {
  Recorder recorder;
  const SinkScope installed(recorder);
  try {
    const ProfileScope outer("blocks.0");
    const ProfileScope inner("blocks.0.mlp", Direction::backward);
    const KernelScope kernel("gemm", {.bytes = 8}, CpuStream{});
    throw Error("gemm: cannot go on");
  } catch (const Error&) {
    EXPECT_EQ(current_scope(), "");
    EXPECT_EQ(current_direction(), Direction::forward);
  }
  EXPECT_THAT(recorder.events, ElementsAre("> blocks.0", "< blocks.0.mlp",
                                           "gemm 8 B in blocks.0.mlp", "done", "end", "end"));
}

}  // namespace
}  // namespace lamina
