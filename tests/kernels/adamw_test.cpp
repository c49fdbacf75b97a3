// SPDX-License-Identifier: MIT
// The optimizer step on CUDA against the CPU kernels: the scalars of BeginStep, and AdamW in f64.
#include "core/kernels/adamw.h"

#include "tests/kernels/cuda_run.h"

#include <cstring>
#include <limits>

namespace lamina::testing {
namespace {

using kernels::Schedule;
using kernels::ScheduleKind;
using kernels::StepState;

Tensor state_tensor(const StepState& state, Device device) {
  std::vector<std::uint8_t> bytes(sizeof(state));
  std::memcpy(bytes.data(), &state, sizeof(state));
  return from_vector(bytes, {static_cast<std::int64_t>(bytes.size())}, device);
}

StepState state_of(const Tensor& tensor) {
  const std::vector<std::uint8_t> bytes = tensor.to_vector<std::uint8_t>();
  StepState state;
  std::memcpy(&state, bytes.data(), sizeof(state));
  return state;
}

struct BeginOptions {
  float scale = 1.0F, max_norm = 0.0F;
  Schedule schedule{};
  kernels::LossScale loss_scale{};
};

void begin(const Tensor& grads, const Tensor& state, const BeginOptions& options) {
  run_on(grads.device(), kernels::BeginStep{.grads = flat(grads),
                                            .state = flat(state),
                                            .scale = options.scale,
                                            .max_norm = options.max_norm,
                                            .beta1 = 0.9F,
                                            .beta2 = 0.95F,
                                            .schedule = options.schedule,
                                            .loss_scale = options.loss_scale,
                                            .workspace = {}});
}

void expect_same_state(const StepState& got, const StepState& want) {
  EXPECT_EQ(got.step, want.step);
  EXPECT_EQ(got.skipped, want.skipped);
  EXPECT_EQ(got.skipped_in_a_row, want.skipped_in_a_row);
  EXPECT_EQ(got.updates, want.updates);
  EXPECT_EQ(got.loss_scale, want.loss_scale);
  EXPECT_EQ(got.updates_in_a_row, want.updates_in_a_row);
  EXPECT_FLOAT_EQ(got.lr, want.lr);
  EXPECT_FLOAT_EQ(got.bias_correction_1, want.bias_correction_1);
  EXPECT_FLOAT_EQ(got.bias_correction_2, want.bias_correction_2);
  EXPECT_NEAR(got.grad_norm, want.grad_norm, 4e-6 * static_cast<double>(want.grad_norm));
  EXPECT_NEAR(got.grad_scale, want.grad_scale, 4e-6 * static_cast<double>(want.grad_scale));
}

class CudaBeginStep : public CudaTest {
 protected:
  Generator generator_{41};
};

TEST_F(CudaBeginStep, FollowsTheCpuThroughEverySchedule) {
  const auto grads = CudaTensor::normal({1003}, DType::f32, generator_);
  const Tensor grads_ref = grads.reference();
  for (const ScheduleKind kind :
       {ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine}) {
    const BeginOptions options{
        .schedule = {.kind = kind, .peak = 1e-3F, .floor = 1e-4F, .warmup = 4, .total = 17}};
    const Tensor got = state_tensor({}, kCuda), want = state_tensor({}, kCpu);
    for (int step = 0; step < 20; ++step) {
      begin(grads.tensor(), got, options);
      begin(grads_ref, want, options);
      SCOPED_TRACE(cat("kind ", static_cast<int>(kind), ", step ", step));
      expect_same_state(state_of(got), state_of(want));
    }
  }
}

TEST_F(CudaBeginStep, ClipsByTheNormOfScaledGradients) {
  for (const std::int64_t size : {1, 3, 4096, 100003, 5000001}) {
    for (const std::int64_t shift : {0, 1}) {
      const auto grads =
          CudaTensor::normal({size}, DType::f32, generator_, 1.0, 0.0, {.shift = shift, .pad = 0});
      const Tensor grads_ref = grads.reference();
      for (const float max_norm : {0.0F, 0.01F, 1e6F}) {
        SCOPED_TRACE(cat(size, " from ", shift, ", max_norm ", max_norm));
        const BeginOptions options{.scale = 0.25F, .max_norm = max_norm};
        const Tensor got = state_tensor({}, kCuda), want = state_tensor({}, kCpu);
        begin(grads.tensor(), got, options);
        begin(grads_ref, want, options);
        expect_same_state(state_of(got), state_of(want));
      }
    }
  }
}

TEST_F(CudaBeginStep, SkipsAStepWhoseNormIsNotFinite) {
  for (const double bad :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    std::vector<double> values(777, 0.5);
    values[500] = bad;
    const CudaTensor grads(values, {777}, DType::f32);
    const Tensor state = state_tensor({}, kCuda);
    begin(grads.tensor(), state, {.max_norm = 1.0F});
    const StepState got = state_of(state);
    EXPECT_EQ(got.step, 1);
    EXPECT_EQ(got.skipped, 1);
    EXPECT_EQ(got.updates, 0);
    EXPECT_EQ(got.grad_scale, 0.0F);
    EXPECT_EQ(got.skipped_in_a_row, 1);
    begin(grads.tensor(), state, {.max_norm = 1.0F});
    EXPECT_EQ(state_of(state).skipped_in_a_row, 2);
    begin(full({777}, 0.5, DType::f32, kCuda), state, {.max_norm = 1.0F});
    EXPECT_EQ(state_of(state).skipped_in_a_row, 0);
    EXPECT_EQ(state_of(state).skipped, 2);
  }
}

TEST_F(CudaBeginStep, FollowsTheCpuThroughChangesOfTheLossScale) {
  const auto good = CudaTensor::normal({1003}, DType::f32, generator_);
  std::vector<double> values = good.values();
  values[77] = std::numeric_limits<double>::infinity();
  const CudaTensor bad(values, {1003}, DType::f32);
  const Tensor good_ref = good.reference(), bad_ref = bad.reference();
  const BeginOptions options{.scale = 0.25F,
                             .max_norm = 1e-3F,
                             .loss_scale = {.growth = 2.0F, .backoff = 0.5F, .interval = 2}};
  const StepState start{.loss_scale = 6.0F};
  const Tensor got = state_tensor(start, kCuda), want = state_tensor(start, kCpu);
  for (int step = 0; step < 24; ++step) {
    SCOPED_TRACE(step);
    const bool is_bad = step % 8 > 4;
    begin(is_bad ? bad.tensor() : good.tensor(), got, options);
    begin(is_bad ? bad_ref : good_ref, want, options);
    const StepState is = state_of(got), expected = state_of(want);
    EXPECT_EQ(is.grad_scale == 0.0F, is_bad);
    EXPECT_EQ(is.loss_scale, expected.loss_scale);
    EXPECT_EQ(is.updates_in_a_row, expected.updates_in_a_row);
    EXPECT_EQ(is.skipped_in_a_row, expected.skipped_in_a_row);
    if (!is_bad) expect_same_state(is, expected);  // infinities have no difference
  }
}

TEST_F(CudaBeginStep, GivesTheSameBitsEveryTime) {
  const auto grads = CudaTensor::normal({100003}, DType::f32, generator_);
  expect_same_bits([&] {
    const Tensor state = state_tensor({}, kCuda);
    begin(grads.tensor(), state, {});
    return std::vector<double>{static_cast<double>(state_of(state).grad_norm)};
  });
}

class CudaAdamW : public CudaTestWith<DType> {
 protected:
  Generator generator_{43};
};

constexpr StepState kState{.step = 3,
                           .updates = 3,
                           .lr = 0.01F,
                           .grad_scale = 0.5F,
                           .bias_correction_1 = 0.271F,
                           .bias_correction_2 = 0.142625F};

kernels::AdamW adamw_args(const Tensor& weights, const Tensor& master, const Tensor& grads,
                          const Tensor& m, const Tensor& v, const Tensor& state) {
  return {.weights = flat(weights),
          .master = flat(master),
          .grads = flat(grads),
          .m = flat(m),
          .v = flat(v),
          .state = flat(state),
          .decayed = grads.elements() * 2 / 3,
          .beta1 = 0.9F,
          .beta2 = 0.95F,
          .eps = 1e-8F,
          .weight_decay = 0.1F};
}

TEST_P(CudaAdamW, UpdatesWeightsAndMoments) {
  const bool has_master = GetParam() != DType::f32;
  for (const std::int64_t size : {1, 3, 8, 1023, 50001}) {
    for (const std::int64_t shift : {0, 1}) {
      SCOPED_TRACE(cat(size, " from ", shift));
      const Layout layout{.shift = shift, .pad = 0};
      const auto make = [&](DType dtype, double offset) {
        return CudaTensor::normal({size}, dtype, generator_, 0.1, offset, layout);
      };
      const auto weights = make(GetParam(), 0.0), grads = make(DType::f32, 0.0);
      const auto m = make(DType::f32, 0.0), v = make(DType::f32, 1.0);
      const auto master = has_master ? make(DType::f32, 0.0) : CudaTensor();
      const Tensor want = has_master ? master.reference() : weights.reference();
      const Tensor m_ref = m.reference(), v_ref = v.reference(), grads_ref = grads.reference();
      run_on(kCpu, adamw_args(want, {}, grads_ref, m_ref, v_ref, state_tensor(kState, kCpu)));
      const Tensor state = state_tensor(kState, kCuda);
      run_on(kCuda, adamw_args(weights.tensor(), master.tensor(), grads.tensor(), m.tensor(),
                               v.tensor(), state));
      const Tolerance close = f32_arithmetic(DType::f32, 1e-7);
      ASSERT_TRUE(all_close(m.values(), m_ref.to_vector<double>(), close));
      ASSERT_TRUE(all_close(v.values(), v_ref.to_vector<double>(), close));
      ASSERT_TRUE(
          all_close(weights.values(), want.to_vector<double>(), f32_arithmetic(GetParam(), 1e-7)));
      if (has_master) {
        ASSERT_TRUE(all_close(master.values(), want.to_vector<double>(), close));
        ASSERT_TRUE(master.guards_intact());
      }
      for (const CudaTensor* tensor : {&weights, &m, &v})
        ASSERT_TRUE(tensor->guards_intact());
    }
  }
}

TEST_P(CudaAdamW, ChangesNothingWhenTheStepIsSkipped) {
  StepState skipped = kState;
  skipped.grad_scale = 0.0F;
  const auto weights = CudaTensor::normal({100}, GetParam(), generator_);
  const auto m = CudaTensor::normal({100}, DType::f32, generator_);
  const auto v = CudaTensor::normal({100}, DType::f32, generator_);
  const auto master = CudaTensor::normal({100}, DType::f32, generator_);
  const auto grads = CudaTensor::poisoned({100}, DType::f32);
  const std::vector<double> before[] = {weights.values(), m.values(), v.values(), master.values()};
  const Tensor state = state_tensor(skipped, kCuda);
  run_on(kCuda, adamw_args(weights.tensor(), GetParam() == DType::f32 ? Tensor() : master.tensor(),
                           grads.tensor(), m.tensor(), v.tensor(), state));
  EXPECT_EQ(weights.values(), before[0]);
  EXPECT_EQ(m.values(), before[1]);
  EXPECT_EQ(v.values(), before[2]);
  EXPECT_EQ(master.values(), before[3]);
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaAdamW, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
