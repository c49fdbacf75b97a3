// SPDX-License-Identifier: MIT
#include "nn/optim/adamw.h"

#include "core/step_graph.h"
#include "nn/nn.h"
#include "tests/support/cuda_case.h"
#include "tests/support/error_of.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

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

  // Gives both parameters the gradient `factor * value`, through backward(), times `seed` if there
  // is one.
  void make_gradients(double factor, const Tensor& seed = {}) const {
    const Var loss =
        sum(mul(matrix, matrix)) * (factor / 2) + sum(mul(vector, vector)) * (factor / 2);
    if (seed) {
      backward(loss, seed);
    } else {
      backward(loss);
    }
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
  const AdamWOptions options{
      .schedule = schedule::cosine(1e-2F, 1e-3F, 2, 8),
      .loss_scale = {.initial = 4.0F, .growth = 2.0F, .backoff = 0.5F, .interval = 2}};
  const auto walk = [](Pair& p, AdamW& optimizer, int steps) {
    for (int i = 0; i < steps; ++i) {
      p.make_gradients(1.0, optimizer.loss_scale());
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
  EXPECT_EQ(after.state().loss_scale, 32.0F);  // not that of a count that began again
}

// Through a captured graph on CUDA.
void expect_scale_follows_overflows(Device device, DType dtype) {
  struct Step {
    bool is_finite;
    float scale;            // afterwards
    std::int32_t in_a_row;  // skipped where the scale could not be why
  };

  const std::vector<Step> steps{{true, 4, 0},  {true, 4, 0},  {true, 8, 0},  {true, 8, 0},
                                {true, 8, 0},  {false, 4, 0}, {true, 4, 0},  {true, 4, 0},
                                {false, 2, 0}, {false, 1, 0}, {false, 1, 1}, {false, 1, 2},
                                {true, 1, 0},  {true, 1, 0},  {true, 2, 0},  {false, 1, 0}};
  Pair p(device, dtype);
  AdamW optimizer(
      {&p.matrix, &p.vector},
      {.schedule = schedule::constant(0.1F),
       .loss_scale = {.initial = 4.0F, .growth = 2.0F, .backoff = 0.5F, .interval = 3}});
  const auto bits = [&] {
    std::vector<std::vector<double>> all{p.matrix.value().to_vector<double>()};
    for (const auto& [name, tensor] : optimizer.tensors()) {
      if (name != "state") all.push_back(tensor.to_vector<double>());
    }
    return all;
  };
  const Tensor factor = empty({}, dtype, device);
  StepGraph graph(device);
  std::int64_t updates = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    SCOPED_TRACE(i);
    const auto before = bits();
    factor.fill(steps[i].is_finite ? 1.0 : std::numeric_limits<double>::infinity());
    graph.run([&] {
      backward(mul(sum(mul(p.matrix, p.matrix)), factor), optimizer.loss_scale());
      optimizer.step();
      optimizer.zero_grad();
    });
    updates += steps[i].is_finite ? 1 : 0;
    EXPECT_EQ(bits() == before, !steps[i].is_finite);
    EXPECT_EQ(optimizer.loss_scale().item<float>(), steps[i].scale);
    const kernels::StepState state = optimizer.state();
    EXPECT_EQ(state.loss_scale, steps[i].scale);
    EXPECT_EQ(state.skipped_in_a_row, steps[i].in_a_row);
    EXPECT_EQ(state.updates, updates);
  }
}

TEST(AdamW, LowersTheLossScaleWhenGradientsOverflowAndRaisesItAgain) {
  expect_scale_follows_overflows(kCpu, DType::f32);
}

// Powers of two are exact, so a step without them is the same to the bit: clipped, and of two
// micro-steps.
void expect_scale_changes_no_bit(Device device) {
  Pair plain(device, DType::f32), scaled(device, DType::f32);
  AdamWOptions options{.schedule = schedule::constant(0.1F), .max_norm = 1.0F};
  AdamW a({&plain.matrix, &plain.vector}, options);
  options.loss_scale = {.initial = 1024.0F, .growth = 4.0F, .backoff = 0.5F, .interval = 2};
  AdamW b({&scaled.matrix, &scaled.vector}, options);
  for (int i = 0; i < 9; ++i) {
    const double factor = i == 4 ? std::numeric_limits<double>::infinity() : i < 6 ? 1.0 : 1e-3;
    for (int micro = 0; micro < 2; ++micro) {
      plain.make_gradients(factor);
      scaled.make_gradients(factor, b.loss_scale());
    }
    for (AdamW* const optimizer : {&a, &b}) {
      optimizer->step(0.5F);
      optimizer->zero_grad();
    }
    ASSERT_EQ(scaled.matrix.value().to_vector<float>(), plain.matrix.value().to_vector<float>());
    ASSERT_EQ(scaled.vector.value().to_vector<float>(), plain.vector.value().to_vector<float>());
    if (i != 4) {
      EXPECT_EQ(b.state().grad_norm, a.state().grad_norm);
    }
    EXPECT_EQ(b.state().skipped, a.state().skipped);
  }
  EXPECT_EQ(b.state().loss_scale, 131072.0F);
  EXPECT_EQ(a.state().loss_scale, 1.0F);
}

TEST(AdamW, TakesTheLossScaleOutToTheBit) {
  expect_scale_changes_no_bit(kCpu);
}

TEST(AdamW, HasALossScaleOfOneUnlessToldOtherwise) {
  Pair p(kCpu, DType::f64);
  AdamW optimizer({&p.matrix, &p.vector}, {});
  p.make_gradients(1.0, optimizer.loss_scale());
  EXPECT_EQ(p.matrix.grad().to_vector<double>(), p.matrix.value().to_vector<double>());
  p.make_gradients(std::numeric_limits<double>::infinity());
  optimizer.step();
  EXPECT_EQ(optimizer.state().loss_scale, 1.0F);
  EXPECT_EQ(optimizer.state().skipped_in_a_row, 1);
}

TEST(AdamW, KeepsTheLossScaleFinite) {
  Var p = Var::parameter(zeros({3}));
  AdamW optimizer({&p}, {.loss_scale = {.initial = 0x1p126F, .growth = 2.0F, .interval = 1}});
  for (int i = 0; i < 3; ++i) {
    backward(sum(p * 0.0), optimizer.loss_scale());
    optimizer.step();
    optimizer.zero_grad();
    EXPECT_EQ(optimizer.state().loss_scale, 0x1p127F);
  }
  EXPECT_EQ(optimizer.state().updates, 3);
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
  for (const kernels::LossScale& scale :
       {kernels::LossScale{.initial = 0.5F}, kernels::LossScale{.initial = HUGE_VALF},
        kernels::LossScale{.growth = 0.5F}, kernels::LossScale{.backoff = 0.0F},
        kernels::LossScale{.backoff = 2.0F}, kernels::LossScale{.interval = 0}}) {
    EXPECT_THROW(AdamW({&a}, {.loss_scale = scale}), Error);
  }
  Var product = a * 2.0;
  EXPECT_THROW(AdamW({&product}, {}), Error);
}

TEST(AdamW, RefusesOptionsOutOfRange) {
  struct Case {
    AdamWOptions options;
    std::string text;  // of the error
  };

  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  std::vector<Case> cases;
  for (const float value : {-1.0F, -HUGE_VALF, HUGE_VALF, kNaN}) {
    cases.push_back({{.eps = value}, cat("eps ", value, ", expected")});
    cases.push_back({{.weight_decay = value}, cat("weight_decay is ", value, ", expected")});
    cases.push_back({{.schedule = schedule::constant(value)}, cat("peak ", value, ", floor")});
    cases.push_back({{.schedule = schedule::linear(value, 0.0F, 1, 2)}, cat("peak ", value)});
    cases.push_back({{.schedule = schedule::cosine(1.0F, value, 1, 2)}, cat("floor ", value)});
    if (value != HUGE_VALF) {
      cases.push_back({{.max_norm = value}, cat("max_norm is ", value, ", expected 0 (no clip")});
    }
  }
  for (const float beta : {-0.1F, 1.0F, kNaN}) {
    cases.push_back({{.beta1 = beta}, cat("beta1 ", beta, ",")});
    cases.push_back({{.beta2 = beta}, cat("beta2 ", beta, ",")});
  }
  cases.push_back({{.schedule = schedule::constant(1.0F, -1)}, "warmup -1"});
  cases.push_back({{.schedule = schedule::linear(1.0F, 0.0F, 0, -2)}, "total -2"});
  Var a = Var::parameter(zeros({2}));
  for (const Case& bad : cases) {
    const std::string text = testing::error_of([&] { AdamW({&a}, bad.options); });
    EXPECT_THAT(text, ::testing::StartsWith("adamw: "));
    EXPECT_THAT(text, ::testing::HasSubstr(bad.text));
  }
}

TEST(AdamW, TakesOptionsAtTheEndsOfTheirRanges) {
  Var a = Var::parameter(zeros({2}));
  const AdamW zero({&a}, {.schedule = schedule::linear(0.0F, 0.0F, 0, 0),
                          .beta1 = 0.0F,
                          .beta2 = 0.0F,
                          .eps = 0.0F,
                          .weight_decay = 0.0F,
                          .max_norm = 0.0F});
  const AdamW unbounded({&a}, {.schedule = schedule::cosine(1.0F, 2.0F, 9, 3),
                               .max_norm = HUGE_VALF});  // warmup ends after total
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

TEST_F(CudaAdamW, LowersTheLossScaleWhenGradientsOverflowAndRaisesItAgain) {
  for (const DType dtype : {DType::f32, DType::f16}) {
    SCOPED_TRACE(dtype);
    expect_scale_follows_overflows(lamina::testing::kCuda, dtype);
  }
}

TEST_F(CudaAdamW, TakesTheLossScaleOutToTheBit) {
  expect_scale_changes_no_bit(lamina::testing::kCuda);
}

TEST_F(CudaAdamW, FindsTheLossScaleThatGradientsInF16CanBear) {
  Pair p(lamina::testing::kCuda, DType::f16);
  const AdamWOptions options{.schedule = schedule::constant(0.01F),
                             .loss_scale = dynamic_loss_scale()};
  AdamW optimizer({&p.matrix, &p.vector}, options);
  for (int i = 0; i < 20; ++i) {
    p.make_gradients(1.0, optimizer.loss_scale());  // 2^16 itself is none of f16
    optimizer.step();
    optimizer.zero_grad();
  }
  const kernels::StepState state = optimizer.state();
  EXPECT_GE(state.skipped, 1);
  EXPECT_EQ(state.loss_scale, std::ldexp(65536.0F, -static_cast<int>(state.skipped)));
  EXPECT_EQ(state.updates, 20 - state.skipped);
  EXPECT_GE(state.updates, 15);
  EXPECT_TRUE(std::isfinite(state.grad_norm));
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
