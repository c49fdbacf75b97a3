// SPDX-License-Identifier: MIT
#include "autograd/gradcheck.h"

#include "autograd/ops.h"
#include "core/kernels/elementwise.h"
#include "core/launch.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

/// factor * x whose gradient is written with another factor.
Var scale_with_gradient(const Var& x, double factor, double grad_factor) {
  const Tensor y = scale(x.value(), factor).value();
  return record("scale_with_gradient", {x}, {y},
                [grad_factor](std::span<const Tensor> d, Grads& grads) {
                  grads.give(0, scale(d[0], grad_factor).value());
                })[0];
}

Tensor sample(const Shape& shape) {
  Generator generator(2);
  return randn(shape, generator, DType::f64);
}

TEST(Gradcheck, AcceptsARightGradient) {
  const GradcheckResult result =
      gradcheck([](const Var& x) { return scale_with_gradient(x, 2.0, 2.0); }, sample({3, 5}));
  EXPECT_TRUE(result) << result.message;
  EXPECT_LE(result.worst, 1e-9);
}

TEST(Gradcheck, RefusesAGradientThatIsOffByOneInTenThousand) {
  const GradcheckResult result =
      gradcheck([](const Var& x) { return scale_with_gradient(x, 2.0, 2.0002); }, sample({3, 5}));
  EXPECT_FALSE(result);
  EXPECT_GT(result.worst, 1e-6);
  EXPECT_NE(result.message.find("input 0, element"), std::string::npos) << result.message;
}

TEST(Gradcheck, RefusesAGradientThatIsMissing) {
  const GradcheckResult result =
      gradcheck([](const Var& x) { return Var(scale(x.value(), 2.0).value()); }, sample({2}));
  EXPECT_FALSE(result);
}

TEST(Gradcheck, RefusesAGradientThatIsNotANumber) {
  const GradcheckResult result = gradcheck(
      [](const Var& x) {
        return scale_with_gradient(x, 2.0, std::numeric_limits<double>::quiet_NaN());
      },
      sample({2, 2}));
  EXPECT_FALSE(result);
}

TEST(Gradcheck, NamesTheInputThatIsWrong) {
  const GradcheckResult result = gradcheck(
      [](std::span<const Var> x) { return add(x[0], scale_with_gradient(x[1], 1.0, 3.0)); },
      {sample({4}), sample({4})});
  EXPECT_FALSE(result);
  EXPECT_NE(result.message.find("input 1"), std::string::npos) << result.message;
}

TEST(Gradcheck, LeavesItsInputsAsTheyWere) {
  const Tensor x = sample({3});
  const auto before = x.to_vector<double>();
  EXPECT_TRUE(gradcheck([](const Var& v) { return mul(v, v); }, x));
  EXPECT_EQ(x.to_vector<double>(), before);
}

TEST(Gradcheck, RefusesInputsThatAreNotF64) {
  EXPECT_THROW(gradcheck([](const Var& x) { return x; }, zeros({2})), DTypeError);
}

}  // namespace
}  // namespace lamina
