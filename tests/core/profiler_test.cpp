// SPDX-License-Identifier: MIT
#include "core/profiler.h"

#include "core/launch.h"
#include "core/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Writes down what a sink is told.
class Recorder final : public Sink {
 public:
  void enter_scope(std::string_view path, Direction direction) override {
    events.push_back(cat(direction == Direction::forward ? "> " : "< ", path));
  }

  void leave_scope() override { events.emplace_back("end"); }

  void enter_kernel(std::string_view name, const Cost& cost, const Stream& /*stream*/) override {
    events.push_back(cat(name, " ", cost.bytes, " B in ", current_scope()));
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
}

TEST(NvtxSink, AcceptsNestedScopesWithoutATool) {
  NvtxSink sink;
  const SinkScope installed(sink);
  const ProfileScope scope("layer");
  const ProfileScope backward("layer", Direction::backward);
  EXPECT_EQ(full({2}, 3.0).to_vector<float>(), std::vector<float>(2, 3.0F));
}

TEST(TableSink, AddsUpByLayerDirectionAndKernel) {
  TableSink sink;
  {
    const SinkScope installed(sink);
    const ProfileScope scope("blocks.1.norm");
    const Tensor a = full({64, 1024}, 1.0);
    for (int i = 0; i < 3; ++i)
      a.fill(2.0);
    const ProfileScope backward("blocks.1.norm", Direction::backward);
    (void)a.to(DType::f64);
  }
  const std::string table = sink.table();
  EXPECT_THAT(table, HasSubstr("blocks.1.norm"));
  EXPECT_THAT(table, ::testing::ContainsRegex("forward +fill +4 "));
  EXPECT_THAT(table, ::testing::ContainsRegex("backward +copy +1 "));
}

}  // namespace
}  // namespace lamina
