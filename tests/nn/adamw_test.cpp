// SPDX-License-Identifier: MIT
#include "nn/optim/adamw.h"

#include "nn/nn.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lamina::nn {
namespace {

// AdamW as the paper has it, for one tensor, in double.
struct Reference {
  std::vector<double> weight, m, v;
  int steps = 0;

  explicit Reference(std::vector<double> start) : weight(std::move(start)) {
    m.assign(weight.size(), 0.0);
    v.assign(weight.size(), 0.0);
  }

  void step(const std::vector<double>& grad, double lr, double decay, double beta1, double beta2,
            double eps) {
    ++steps;
    for (std::size_t i = 0; i < weight.size(); ++i) {
      m[i] = beta1 * m[i] + (1.0 - beta1) * grad[i];
      v[i] = beta2 * v[i] + (1.0 - beta2) * grad[i] * grad[i];
      const double m_hat = m[i] / (1.0 - std::pow(beta1, steps));
      const double v_hat = v[i] / (1.0 - std::pow(beta2, steps));
      weight[i] = weight[i] * (1.0 - lr * decay) - lr * m_hat / (std::sqrt(v_hat) + eps);
    }
  }
};

struct Pair {
  explicit Pair(Device device, DType dtype) {
    Generator generator(5);
    matrix = Var::parameter(randn({7, 9}, generator, dtype, device));
    vector = Var::parameter(randn({11}, generator, dtype, device));
  }

  Var matrix, vector;

  // Gives both parameters the gradient `factor * value`, through backward().
  void make_gradients(double factor) const {
    const Var loss =
        sum(mul(matrix, matrix)) * (factor / 2) + sum(mul(vector, vector)) * (factor / 2);
    backward(loss);
  }
};

void expect_near(const Var& var, const std::vector<double>& expected, double tolerance) {
  const std::vector<double> values = var.value().to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(values[i], expected[i], tolerance) << "element " << i;
  }
}

TEST(AdamW, FollowsThePaperWithDecayOnMatricesOnly) {
  Pair p(kCpu, DType::f64);
  Reference matrix(p.matrix.value().to_vector<double>());
  Reference vector(p.vector.value().to_vector<double>());
  AdamW optimizer({&p.matrix, &p.vector}, {.schedule = schedule::constant(0.01F),
                                           .beta1 = 0.9F,
                                           .beta2 = 0.95F,
                                           .eps = 1e-8F,
                                           .weight_decay = 0.1F});
  for (int i = 0; i < 20; ++i) {
    const std::vector<double> matrix_grad = matrix.weight;
    const std::vector<double> vector_grad = vector.weight;
    p.make_gradients(1.0);
    optimizer.step();
    optimizer.zero_grad();
    const double lr = 0.01F;
    matrix.step(matrix_grad, lr, 0.1F, 0.9F, 0.95F, 1e-8F);
    vector.step(vector_grad, lr, 0.0, 0.9F, 0.95F, 1e-8F);
  }
  expect_near(p.matrix, matrix.weight, 1e-6);
  expect_near(p.vector, vector.weight, 1e-6);
  EXPECT_EQ(optimizer.state().updates, 20);
}

TEST(AdamW, ClipsTheGlobalNorm) {
  Pair p(kCpu, DType::f64);
  Reference matrix(p.matrix.value().to_vector<double>());
  double squares = 0.0;
  for (const Var* var : {&p.matrix, &p.vector}) {
    for (const double x : var->value().to_vector<double>())
      squares += 9.0 * x * x;
  }
  const double norm = std::sqrt(squares);
  AdamW optimizer({&p.matrix, &p.vector},
                  {.schedule = schedule::constant(0.01F), .max_norm = 0.5F});
  std::vector<double> grad = matrix.weight;
  for (double& g : grad)
    g *= 3.0 * 0.5 / norm;
  p.make_gradients(3.0);
  optimizer.step();
  EXPECT_NEAR(optimizer.state().grad_norm, norm, 1e-5 * norm);
  EXPECT_NEAR(optimizer.state().grad_scale, 0.5 / norm, 1e-6);
  matrix.step(grad, 0.01F, 0.01F, 0.9F, 0.999F, 1e-8F);
  expect_near(p.matrix, matrix.weight, 1e-6);
}

TEST(AdamW, AveragesAccumulatedGradients) {
  Pair once(kCpu, DType::f32);
  Pair twice(kCpu, DType::f32);
  const AdamWOptions options{.schedule = schedule::constant(0.1F), .max_norm = 1.0F};
  AdamW a({&once.matrix, &once.vector}, options);
  AdamW b({&twice.matrix, &twice.vector}, options);
  once.make_gradients(1.0);
  a.step();
  twice.make_gradients(1.0);
  twice.make_gradients(1.0);
  b.step(0.5F);
  EXPECT_EQ(once.matrix.value().to_vector<float>(), twice.matrix.value().to_vector<float>());
}

TEST(AdamW, SkipsAStepWhoseGradientIsNotFinite) {
  Pair p(kCpu, DType::f32);
  AdamW optimizer({&p.matrix, &p.vector}, {.schedule = schedule::constant(0.1F)});
  const std::vector<float> before = p.matrix.value().to_vector<float>();
  p.make_gradients(std::numeric_limits<double>::infinity());
  optimizer.step();
  optimizer.zero_grad();
  EXPECT_EQ(p.matrix.value().to_vector<float>(), before);
  EXPECT_EQ(optimizer.state().skipped, 1);
  p.make_gradients(1.0);
  optimizer.step();
  EXPECT_NE(p.matrix.value().to_vector<float>(), before);
  EXPECT_EQ(optimizer.state().updates, 1);
  EXPECT_EQ(optimizer.state().step, 2);
}

TEST(AdamW, TreatsAMissingGradientAsZeroNotAsTheLastOne) {
  Pair p(kCpu, DType::f64);
  AdamW optimizer({&p.matrix, &p.vector},
                  {.schedule = schedule::constant(0.1F), .weight_decay = 0.0F});
  p.make_gradients(1.0);
  optimizer.step();
  optimizer.zero_grad();
  backward(sum(p.vector));  // nothing for the matrix
  optimizer.step();
  EXPECT_NEAR(optimizer.state().grad_norm, std::sqrt(11.0), 1e-6);
}

TEST(AdamW, GoesOnFromCopiesOfItsTensors) {
  const AdamWOptions options{.schedule = schedule::cosine(1e-2F, 1e-3F, 2, 8)};
  const auto walk = [](Pair& p, AdamW& optimizer, int steps) {
    for (int i = 0; i < steps; ++i) {
      p.make_gradients(1.0);
      optimizer.step();
      optimizer.zero_grad();
    }
  };
  Pair first(kCpu, DType::f32), second(kCpu, DType::f32);
  AdamW before({&first.matrix, &first.vector}, options);
  walk(first, before, 3);
  AdamW after({&second.matrix, &second.vector}, options);
  second.matrix.value().copy_from(first.matrix.value());
  second.vector.value().copy_from(first.vector.value());
  const NamedTensors from = before.tensors(), to = after.tensors();
  ASSERT_EQ(from.size(), 3U);
  for (std::size_t i = 0; i < from.size(); ++i)
    to[i].second.copy_from(from[i].second);
  walk(first, before, 3);
  walk(second, after, 3);
  EXPECT_EQ(second.matrix.value().to_vector<float>(), first.matrix.value().to_vector<float>());
  EXPECT_EQ(second.vector.value().to_vector<float>(), first.vector.value().to_vector<float>());
  EXPECT_EQ(after.state().updates, 6);
}

TEST(AdamW, RefusesWhatItCannotTrain) {
  EXPECT_THROW(AdamW({}, {}), Error);
  Var constant = zeros({2});
  EXPECT_THROW(AdamW({&constant}, {}), Error);
  Var a = Var::parameter(zeros({2}));
  Var b = Var::parameter(zeros({2}, DType::f64));
  EXPECT_THROW(AdamW({&a, &b}, {}), DTypeError);
  Var alias = a;
  EXPECT_THROW(AdamW({&a, &alias}, {}), Error);
  EXPECT_THROW(AdamW({&a}, {.beta1 = 1.0F}), Error);
  Var product = a * 2.0;
  EXPECT_THROW(AdamW({&product}, {}), Error);
}

TEST(Schedule, WarmsUpAndDecays) {
  struct Case {
    kernels::Schedule schedule;
    std::vector<double> expected;  // of steps 0 ... 7
  };

  const double half_cosine = 0.1 + 0.9 * 0.5;
  const std::vector<Case> cases{
      {schedule::constant(1.0F), {1, 1, 1, 1, 1, 1, 1, 1}},
      {schedule::linear(1.0F, 0.0F, 2, 6), {0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0}},
      {schedule::cosine(1.0F, 0.1F, 2, 6),
       {0.5, 1, 1, 0.1 + 0.9 * 0.5 * (1 + std::sqrt(0.5)), half_cosine,
        0.1 + 0.9 * 0.5 * (1 - std::sqrt(0.5)), 0.1, 0.1}}};
  for (const Case& c : cases) {
    Var p = Var::parameter(zeros({1}));
    AdamW optimizer({&p}, {.schedule = c.schedule});
    for (const double expected : c.expected) {
      optimizer.step();
      EXPECT_NEAR(optimizer.state().lr, expected, 1e-6);
    }
  }
}

class CudaAdamW : public lamina::testing::CudaTest {};

TEST_F(CudaAdamW, KeepsMasterWeightsOf16BitParameters) {
  const Device gpu = Device::parse("cuda");
  Pair p(gpu, DType::bf16);
  Pair reference(kCpu, DType::f64);
  reference.matrix.set_value(p.matrix.value().to(kCpu).to(DType::f64));
  reference.vector.set_value(p.vector.value().to(kCpu).to(DType::f64));
  const AdamWOptions options{.schedule = schedule::constant(1e-4F), .weight_decay = 0.1F};
  AdamW optimizer({&p.matrix, &p.vector}, options);
  AdamW exact({&reference.matrix, &reference.vector}, options);
  const std::vector<double> start = p.matrix.value().to_vector<double>();
  for (int i = 0; i < 200; ++i) {  // steps too small for bf16 to move one by one
    p.make_gradients(1.0);
    optimizer.step();
    optimizer.zero_grad();
    reference.make_gradients(1.0);
    exact.step();
    exact.zero_grad();
  }
  const std::vector<double> end = p.matrix.value().to_vector<double>();
  const std::vector<double> expected = reference.matrix.value().to_vector<double>();
  for (std::size_t i = 0; i < end.size(); ++i) {
    EXPECT_NEAR(end[i], expected[i], std::abs(expected[i]) * 0x1p-8 + 1e-4) << start[i];
  }
}

TEST_F(CudaAdamW, TakesLoadedWeightsAsMasterWeightsWhenTold) {
  Pair p(Device::parse("cuda"), DType::bf16);
  AdamW optimizer({&p.matrix, &p.vector}, {.schedule = schedule::constant(0.0F)});
  p.matrix.value().fill(5.0);
  optimizer.refresh_master();
  p.make_gradients(1.0);
  optimizer.step();
  EXPECT_THAT(p.matrix.value().to_vector<float>(), ::testing::Each(5.0F));
}

}  // namespace
}  // namespace lamina::nn
