// SPDX-License-Identifier: MIT
// FindNotFinite names the op that made a NaN or an Inf, for every op, forward and backward.
#include "autograd/watch.h"

#include "autograd/ops.h"
#include "autograd/record.h"
#include "core/profile_scope.h"
#include "tests/support/error_of.h"
#include "tests/support/op_cases.h"
#include "tests/support/plant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace lamina::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// A call of the op and its backward pass. What is planted in one op is not to be seen by the next.
std::string fault_of(const OpCase& op, int index, Plant& plant) {
  Sampler random(index, Sampler::Size::small);
  const OpCall call = op.make(random);
  FindNotFinite find;
  const WatchOps outer(plant), inner(find);
  return error_of([&] {
    const ProfileScope scope("layer");
    std::vector<Var> inputs;
    for (const Tensor& input : call.inputs)
      inputs.push_back(Var::parameter(input.clone()));
    Var loss;
    for (const Var& output : call.op(inputs)) {
      if (!output.requires_grad()) continue;
      const Var part = sum(convert(output, DType::f64));
      loss = loss ? add(loss, part) : part;
    }
    if (loss) backward(loss);
  });
}

TEST(FindNotFinite, NamesEveryOpOfACallForwardAndBackward) {
  for (const OpCase& op : op_cases()) {
    int planted = 0;  // in backward functions
    for (int index = 3; index < 13; ++index) {
      Plant nothing;
      ASSERT_EQ(fault_of(op, index, nothing), "no error") << op.name;
      if (nothing.passes.empty()) continue;  // convert to the same dtype is no op
      const Plant::Pass ops = nothing.passes.front();
      for (std::size_t at = 0; at < ops.size(); ++at) {
        for (const double value :
             {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
          Plant plant(value, at, 0, 0);
          const std::string fault = fault_of(op, index, plant);
          if (!plant.has_planted) continue;  // a view, or no gradient
          const bool is_ours = ops[at].name == "sum" || ops[at].name == "convert";
          planted += ops[at].is_backward && (!is_ours || op.name == ops[at].name) ? 1 : 0;
          EXPECT_THAT(fault, AllOf(StartsWith(ops[at].name + " in layer "),
                                   HasSubstr(cat(" with ", value, " at "))))
              << op.name << ", op " << at;
          EXPECT_EQ(fault.find("gradient") != std::string::npos, ops[at].is_backward) << fault;
        }
      }
    }
    EXPECT_GE(planted, op.name == "convert" ? 0 : 1) << op.name;  // there to its own dtype only
  }
}

TEST(FindNotFinite, NamesConvert) {
  const Var x = Var::parameter(full({3}, 1e300, DType::f64));
  FindNotFinite find;
  const WatchOps watch(find);
  EXPECT_THAT(error_of([&] { convert(x, DType::f32); }), StartsWith("convert makes output 0"));
}

TEST(FindNotFinite, SaysWhatAnOpWasGiven) {
  FindNotFinite find;
  const WatchOps watch(find);
  const double inf = std::numeric_limits<double>::infinity();
  const Var good = Var::parameter(full({2, 3}, 1.0));
  const Tensor bad =
      from_vector(std::vector<double>{1, 2, 3, 4, inf, 6}, {2, 3}, kCpu).to(DType::f32);
  EXPECT_EQ(error_of([&] { add(good, bad); }),
            "add is given input 1 of shape [2, 3] with inf at element 4, expected finite values");
  EXPECT_THAT(error_of([&] { scale(Var::parameter(bad), 2.0); }), HasSubstr("is given input 0"));
}

TEST(FindNotFinite, LooksOnlyWhileItIsWatching) {
  const Var x = Var::parameter(full({3}, 1e30));
  {
    FindNotFinite find;
    const WatchOps watch(find);
    EXPECT_NO_THROW(scale(x, 2.0));
  }
  EXPECT_NO_THROW(scale(x, 1e300));
  FindNotFinite find;
  const WatchOps watch(find);
  EXPECT_THAT(error_of([&] { scale(x, 1e300); }), StartsWith("scale makes output 0 of shape [3]"));
}

}  // namespace
}  // namespace lamina::testing
