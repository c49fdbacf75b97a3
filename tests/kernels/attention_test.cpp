// SPDX-License-Identifier: MIT
// The implementations of attention on CUDA, composed, fused and for Hopper, against the CPU kernel
// in f64.
#include "tests/kernels/attention_case.h"
#include "tests/support/bounds.h"
#include "tests/support/tolerance.h"

#include <cmath>
#include <limits>
#include <string>

namespace lamina::testing {
namespace {

/// The column sum of the backward pass is that of the dqkv that it stores.
void expect_column_sums(const AttentionCase& c) {
  const AttentionOperands operands(c);
  launch_implementation(c, forward_args(c.shape(), operands.forward()));
  const std::int64_t cols = 3 * c.cols();
  const CudaTensor dqkv = CudaTensor::poisoned({c.rows(), cols}, c.dtype, c.layout);
  const CudaTensor column_sum = CudaTensor::poisoned({cols}, DType::f32);
  auto args =
      backward_args(c.shape(), operands.forward(),
                    {.dout = operands.dout.tensor(), .dqkv = dqkv.tensor()}, GradWrite::overwrite);
  args.column_sum = flat(column_sum.tensor());
  if (c.implementation == Implementation::hopper) {
    launch_implementation(c, args);
  } else {  // the others leave it to the contract
    launch_contract(args, dqkv.tensor());
  }

  const auto gradient = dqkv.values();
  const auto width = static_cast<std::size_t>(cols);
  std::vector<double> want(width), bound(width);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    want[i % width] += gradient[i];
    bound[i % width] += kArithmetic * std::abs(gradient[i]);
  }
  EXPECT_TRUE(all_within(column_sum.values(), want, bound));
  EXPECT_TRUE(column_sum.guards_intact());
  EXPECT_TRUE(dqkv.guards_intact());
}

class CudaAttention : public CudaTestWith<AttentionCase> {
 protected:
  void SetUp() override {
    CudaTestWith<AttentionCase>::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (GetParam().implementation == Implementation::hopper && !kernels::attention_hopper_runs(0)) {
      GTEST_SKIP() << "needs compute capability 9.0 and code for sm_90a";
    }
  }

  /// dqkv against the CPU, written over NaN or added to what is there.
  static void expect_gradients(GradWrite write) {
    const AttentionCase& c = GetParam();
    const AttentionOperands operands(c);
    const Forward cpu = cpu_forward(c, operands.qkv.reference());
    // The device gets out and lse as a forward pass stores them.
    const CudaTensor out(cpu.out.to_vector<double>(), cpu.out.shape(), c.dtype, c.layout);
    const CudaTensor lse(cpu.lse.to_vector<double>(), cpu.lse.shape(), DType::f32);
    Generator generator(12);
    const Shape shape{c.rows(), 3 * c.cols()};
    const CudaTensor dqkv = write == GradWrite::accumulate
                                ? CudaTensor::normal(shape, c.dtype, generator, 1.0, 0.0, c.layout)
                                : CudaTensor::poisoned(shape, c.dtype, c.layout);
    const Tensor dout = operands.dout.reference();
    const Tensor want =
        write == GradWrite::accumulate ? dqkv.reference() : zeros(shape, DType::f64);
    launch_contract(backward_args(c.shape(), cpu, {.dout = dout, .dqkv = want}, write), want);

    launch_implementation(
        c, backward_args(c.shape(),
                         {.qkv = operands.qkv.tensor(), .out = out.tensor(), .lse = lse.tensor()},
                         {.dout = operands.dout.tensor(), .dqkv = dqkv.tensor()}, write));

    const auto expected = want.to_vector<double>();
    auto bound = Magnitudes(c, cpu).backward_errors(dout.to_vector<double>(), epsilon_of(c.dtype));
    for (std::size_t i = 0; i < bound.size(); ++i)
      bound[i] += ulp_of(c.dtype, expected[i]);
    EXPECT_TRUE(all_within(dqkv.values(), expected, bound));
    EXPECT_TRUE(dqkv.guards_intact());
  }
};

TEST_P(CudaAttention, MatchesTheCpu) {
  const AttentionCase& c = GetParam();
  const AttentionOperands operands(c);
  const Forward cpu = cpu_forward(c, operands.qkv.reference());
  launch_implementation(c, forward_args(c.shape(), operands.forward()));

  const auto want = cpu.out.to_vector<double>();
  auto bound = Magnitudes(c, cpu).forward();
  for (std::size_t i = 0; i < bound.size(); ++i) {
    bound[i] = bound[i] * (epsilon_of(c.dtype) + kArithmetic) + ulp_of(c.dtype, want[i]);
  }
  EXPECT_TRUE(all_within(operands.out.values(), want, bound));
  EXPECT_TRUE(operands.out.guards_intact());
  EXPECT_TRUE(all_close(operands.lse.values(), cpu.lse.to_vector<double>(),
                        {.absolute = kArithmetic, .relative = kArithmetic}));
  EXPECT_TRUE(operands.lse.guards_intact());
}

TEST_P(CudaAttention, WritesTheGradientsOfTheCpu) {
  expect_gradients(GradWrite::overwrite);
}

TEST_P(CudaAttention, AddsItsGradientsWhenAsked) {
  expect_gradients(GradWrite::accumulate);
}

TEST_P(CudaAttention, SumsTheColumnsOfItsGradient) {
  expect_column_sums(GetParam());
}

TEST_P(CudaAttention, GivesTheSameBitsEachTime) {
  const AttentionCase& c = GetParam();
  std::vector<double> outs[2];
  std::vector<double> gradients[2];
  for (int i = 0; i < 2; ++i) {
    const AttentionOperands operands(c);
    const CudaTensor dqkv = CudaTensor::poisoned({c.rows(), 3 * c.cols()}, c.dtype, c.layout);
    launch_implementation(c, forward_args(c.shape(), operands.forward()));
    launch_implementation(c, backward_args(c.shape(), operands.forward(),
                                           {.dout = operands.dout.tensor(), .dqkv = dqkv.tensor()},
                                           GradWrite::overwrite));
    outs[i] = operands.out.values();
    gradients[i] = dqkv.values();
  }
  EXPECT_EQ(outs[0], outs[1]);
  EXPECT_EQ(gradients[0], gradients[1]);
}

std::vector<AttentionCase> attention_cases() {
  constexpr std::int64_t kShapes[][4] = {{1, 1, 1, 8},    {2, 17, 3, 16},  {1, 64, 2, 64},
                                         {2, 128, 2, 64}, {1, 200, 1, 32}, {1, 129, 2, 128},
                                         {2, 70, 1, 96},  {1, 33, 2, 13},  {3, 1, 2, 64},
                                         {1, 65, 3, 64},  {1, 331, 2, 64}, {1, 700, 2, 128}};
  std::vector<AttentionCase> cases;
  for (const auto implementation :
       {Implementation::composed, Implementation::fused, Implementation::hopper}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      const auto add = [&](AttentionCase c) {
        const bool supported = c.implementation == Implementation::composed ||
                               (c.implementation == Implementation::fused
                                    ? kernels::attention_fused_supports(c.shape(), c.dtype)
                                    : kernels::attention_hopper_supports(c.shape(), c.dtype));
        if (supported) cases.push_back(c);
      };
      for (const auto& [batch, time, heads, head_size] : kShapes) {
        for (const bool causal : {false, true}) {
          for (const float drop_p : {0.0F, 0.2F}) {
            add({implementation, dtype, batch, time, heads, head_size, causal, drop_p});
          }
        }
      }
      add({implementation, dtype, 2, 50, 2, 64, true, 0.2F, {.pad = 8}});
      // Thresholds with the first of 16 bits, and with nothing but that.
      add({implementation, dtype, 1, 77, 2, 64, false, 0.75F});
      add({implementation, dtype, 1, 77, 2, 64, true, 0.5F});
      if (implementation == Implementation::composed) {
        add({implementation, dtype, 2, 19, 2, 24, true, 0.2F, {.shift = 1, .pad = 3}});
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Implementations, CudaAttention, ::testing::ValuesIn(attention_cases()),
                         NameOfCase());

class CudaAttentionContract : public CudaTest {};

TEST_F(CudaAttentionContract, RunsTheFastestKernelsThatApply) {
  // 32 elements to a head: not for Hopper's. 13: only the composition takes it.
  for (const std::int64_t head_size : {64, 32, 13}) {
    const auto implementation = head_size == 13 ? Implementation::composed
                                : head_size == 64 && kernels::attention_hopper_runs(0)
                                    ? Implementation::hopper
                                    : Implementation::fused;
    const AttentionCase c{implementation, DType::bf16, 2, 40, 2, head_size, true, 0.1F};
    const AttentionOperands own(c);
    const AttentionOperands contract(c);
    launch_implementation(c, forward_args(c.shape(), own.forward()));
    launch_contract(forward_args(c.shape(), contract.forward()), contract.qkv.tensor());
    EXPECT_EQ(own.out.values(), contract.out.values());

    const Shape shape{c.rows(), 3 * c.cols()};
    const CudaTensor own_dqkv = CudaTensor::poisoned(shape, c.dtype);
    const CudaTensor contract_dqkv = CudaTensor::poisoned(shape, c.dtype);
    const auto gradient = [&](const AttentionOperands& of, const CudaTensor& dqkv) {
      return backward_args(c.shape(), of.forward(),
                           {.dout = of.dout.tensor(), .dqkv = dqkv.tensor()}, GradWrite::overwrite);
    };
    launch_implementation(c, gradient(own, own_dqkv));
    launch_contract(gradient(contract, contract_dqkv), contract.qkv.tensor());
    EXPECT_EQ(own_dqkv.values(), contract_dqkv.values());
  }
}

TEST_F(CudaAttentionContract, HasHoppersKernelsOnHopper) {
  const bool is_hopper = device_info(testing::kCuda).compute_capability == 90;
  EXPECT_EQ(kernels::attention_hopper_runs(0), is_hopper && LAMINA_HAS_SM90A_CODE);
}

/// Many heads of several tiles of queries and of keys: thread blocks walk over several tiles of
/// several heads. Each batch element has the operands of the others, so it must have their results.
void expect_the_same_on_a_full_device(AttentionCase c) {
  constexpr std::int64_t kBatch = 75;
  if (kernels::attention_hopper_runs(0)) c.implementation = Implementation::hopper;
  const AttentionOperands one(c);
  AttentionCase many = c;
  many.batch = kBatch;
  const auto repeat = [&](const CudaTensor& of) {
    const std::vector<double> values = of.values();
    std::vector<double> repeated;
    for (std::int64_t i = 0; i < kBatch; ++i)
      repeated.insert(repeated.end(), values.begin(), values.end());
    return repeated;
  };
  const Shape qkv_shape{many.rows(), 3 * many.cols()};
  const Shape out_shape{many.rows(), many.cols()};
  const CudaTensor qkv(repeat(one.qkv), qkv_shape, c.dtype);
  const CudaTensor dout(repeat(one.dout), out_shape, c.dtype);
  const CudaTensor out = CudaTensor::poisoned(out_shape, c.dtype);
  const CudaTensor lse = CudaTensor::poisoned({kBatch * c.heads * c.time}, DType::f32);
  const CudaTensor dqkv = CudaTensor::poisoned(qkv_shape, c.dtype);
  const CudaTensor one_dqkv = CudaTensor::poisoned({c.rows(), 3 * c.cols()}, c.dtype);
  const Forward on{.qkv = qkv.tensor(), .out = out.tensor(), .lse = lse.tensor()};
  launch_implementation(c, forward_args(c.shape(), one.forward()));
  launch_implementation(c, backward_args(c.shape(), one.forward(),
                                         {.dout = one.dout.tensor(), .dqkv = one_dqkv.tensor()},
                                         GradWrite::overwrite));
  launch_implementation(many, forward_args(many.shape(), on));
  launch_implementation(
      many, backward_args(many.shape(), on, {.dout = dout.tensor(), .dqkv = dqkv.tensor()},
                          GradWrite::overwrite));
  EXPECT_EQ(out.values(), repeat(one.out));
  EXPECT_EQ(lse.values(), repeat(one.lse));
  EXPECT_EQ(dqkv.values(), repeat(one_dqkv));
}

TEST_F(CudaAttentionContract, GivesTheSameOnAFullDevice) {
  expect_the_same_on_a_full_device({Implementation::fused, DType::bf16, 1, 450, 2, 64, true, 0.0F});
}

TEST_F(CudaAttentionContract, GivesTheSameOnAFullDeviceForLargeHeads) {
  expect_the_same_on_a_full_device(
      {Implementation::fused, DType::bf16, 1, 450, 2, 128, true, 0.0F});
}

TEST_F(CudaAttentionContract, GivesTheSameOnAFullDeviceWithoutAMask) {
  expect_the_same_on_a_full_device(
      {Implementation::fused, DType::bf16, 1, 450, 2, 64, false, 0.0F});
}

TEST_F(CudaAttentionContract, SumsColumnsOnAFullDevice) {
  const auto implementation =
      kernels::attention_hopper_runs(0) ? Implementation::hopper : Implementation::fused;
  for (const std::int64_t head_size : {64, 128}) {
    for (const float drop_p : {0.0F, 0.2F})
      expect_column_sums({implementation, DType::bf16, 75, 450, 2, head_size, true, drop_p});
  }
}

/// Scores that grow with the position of the key, by far more than the kernels take without raising
/// the references of their softmax.
TEST_F(CudaAttentionContract, RaisesTheReferencesOfItsSoftmax) {
  constexpr std::int64_t kTime = 300, kHeads = 2, kSize = 64;
  const kernels::AttentionShape shape{.batch = 1,
                                      .time = kTime,
                                      .heads = kHeads,
                                      .head_size = kSize,
                                      .scale = 0.125F,
                                      .causal = true};
  Generator generator(8);
  Tensor qkv = randn({kTime, 3 * kHeads * kSize}, generator, DType::f64);
  double* const values = qkv.data<double>();
  for (std::int64_t t = 0; t < kTime; ++t) {
    for (std::int64_t i = 0; i < 2 * kHeads * kSize; ++i) {
      double& value = values[t * 3 * kHeads * kSize + i];
      value = i < kHeads * kSize ? 0.5 + 0.1 * value : 0.02 * static_cast<double>(t) + 0.1 * value;
    }
  }
  const Tensor rounded = qkv.to(DType::bf16);
  const auto run_one = [&](const Tensor& on) {
    const DType sums = accumulation_dtype(on.dtype());
    const Tensor out = empty({kTime, kHeads * kSize}, on.dtype(), on.device());
    const Tensor lse = empty({kHeads * kTime}, sums, on.device());
    const kernels::Attention args{
        .shape = shape, .qkv = rows(on), .out = rows(out), .lse = flat(lse)};
    run_on(on.device(), args);
    return std::pair{out.to(kCpu).to(DType::f64).to_vector<double>(), lse.to_vector<double>()};
  };
  const auto want = run_one(rounded.to(DType::f64)), got = run_one(rounded.to(kCuda));
  ASSERT_GT(want.second.back(), 20.0);  // log2(256) = 8 is what they take
  for (std::size_t i = 0; i < want.second.size(); ++i)
    ASSERT_NEAR(got.second[i], want.second[i], 1e-4 * std::abs(want.second[i]) + 1e-4) << i;
  for (std::size_t i = 0; i < want.first.size(); ++i)
    ASSERT_NEAR(got.first[i], want.first[i], 0.01 * std::abs(want.first[i]) + 0.01) << i;
}

TEST_F(CudaAttentionContract, TakesMisalignedOperandsThatTheFusedKernelsCannotLoad) {
  AttentionCase c{Implementation::composed, DType::bf16, 1, 20, 2, 64, true, 0.0F};
  const AttentionOperands aligned(c);
  c.layout = {.shift = 1, .pad = 1};
  const AttentionOperands misaligned(c);
  launch_contract(forward_args(c.shape(), misaligned.forward()), misaligned.qkv.tensor());
  launch_implementation(c, forward_args(c.shape(), aligned.forward()));
  EXPECT_EQ(misaligned.out.values(), aligned.out.values());
}

TEST_F(CudaAttentionContract, ComposesMoreHeadsThanFitTheBudgetInChunks) {
  // 108 heads of [512, 512] scores are two chunks forward and three backward; heads are
  // independent, so the first and the last batch element must be what they are alone.
  const AttentionCase c{Implementation::composed, DType::f32, 27, 512, 4, 64, true, 0.0F};
  const AttentionOperands all(c);
  const CudaTensor dqkv = CudaTensor::poisoned({c.rows(), 3 * c.cols()}, c.dtype);
  launch_implementation(c, forward_args(c.shape(), all.forward()));
  launch_implementation(
      c, backward_args(c.shape(), all.forward(), {.dout = all.dout.tensor(), .dqkv = dqkv.tensor()},
                       GradWrite::overwrite));
  AttentionCase one = c;
  one.batch = 1;
  for (const std::int64_t batch : {std::int64_t{0}, c.batch - 1}) {
    const auto part = [&](const Tensor& tensor, std::int64_t per_batch) {
      return tensor.slice(0, batch * per_batch, (batch + 1) * per_batch);
    };
    const Forward whole = all.forward();
    const CudaTensor out = CudaTensor::poisoned({one.rows(), one.cols()}, c.dtype);
    const CudaTensor lse = CudaTensor::poisoned({one.heads * one.time}, DType::f32);
    const CudaTensor gradient = CudaTensor::poisoned({one.rows(), 3 * one.cols()}, c.dtype);
    const Forward alone{.qkv = part(whole.qkv, c.time), .out = out.tensor(), .lse = lse.tensor()};
    launch_implementation(one, forward_args(one.shape(), alone));
    launch_implementation(
        one, backward_args(one.shape(), alone,
                           {.dout = part(all.dout.tensor(), c.time), .dqkv = gradient.tensor()},
                           GradWrite::overwrite));
    const Tolerance tolerance{.absolute = 1e-5, .relative = 1e-5};
    EXPECT_TRUE(all_close(part(whole.out, c.time).to_vector<double>(), out.values(), tolerance));
    EXPECT_TRUE(
        all_close(part(whole.lse, c.heads * c.time).to_vector<double>(), lse.values(), tolerance));
    EXPECT_TRUE(
        all_close(part(dqkv.tensor(), c.time).to_vector<double>(), gradient.values(), tolerance));
  }
}

}  // namespace
}  // namespace lamina::testing
