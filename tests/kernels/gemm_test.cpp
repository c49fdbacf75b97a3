// SPDX-License-Identifier: MIT
// cuBLASLt products, bias and activation against the CPU kernel in f64.
#include "core/kernels/gemm.h"

#include "tests/kernels/gemm_case.h"

#include <string>
#include <vector>

namespace lamina::testing {
namespace {

class CudaGemm : public CudaTestWith<GemmCase> {};

TEST_P(CudaGemm, MatchesTheCpu) {
  const GemmCase& c = GetParam();
  const Fixture device(c);
  const Expectation expectation(c, device);
  launch_with_workspace(make_args(c, device.on_device()), device.d.tensor(), c.workspace);
  expectation.check(c, device);
}

TEST_P(CudaGemm, GivesTheSameBitsEachTime) {
  const GemmCase& c = GetParam();
  const Fixture first(c);
  const Fixture second(c);
  for (const Fixture* fixture : {&first, &second}) {
    launch_with_workspace(make_args(c, fixture->on_device()), fixture->d.tensor(), c.workspace);
  }
  EXPECT_EQ(first.d.values(), second.d.values());
}

struct Precision {
  DType dtype, d_dtype;
};

constexpr Precision kPrecisions[] = {{DType::f32, DType::f32},
                                     {DType::f16, DType::f16},
                                     {DType::bf16, DType::bf16},
                                     {DType::f16, DType::f32},
                                     {DType::bf16, DType::f32}};

std::vector<GemmCase> transposed_cases() {
  constexpr std::int64_t kSizes[][3] = {{1, 1, 1},     {2, 3, 5},       {17, 33, 65}, {64, 64, 64},
                                        {129, 65, 31}, {256, 384, 512}, {8, 16, 4096}};
  std::vector<GemmCase> cases;
  for (const auto& [m, n, k] : kSizes) {
    for (const Precision& precision : kPrecisions) {
      for (const int transposes : {0, 1, 2, 3}) {
        cases.push_back({.m = m,
                         .n = n,
                         .k = k,
                         .dtype = precision.dtype,
                         .d_dtype = precision.d_dtype,
                         .transpose_a = transposes % 2 == 1,
                         .transpose_b = transposes / 2 == 1});
      }
    }
  }
  cases.push_back({.m = 1024, .n = 1536, .k = 768, .transpose_b = true});
  cases.push_back({.m = 1, .n = 1024, .k = 768, .transpose_b = true});
  cases.push_back({.m = 1024, .n = 1, .k = 768});
  return cases;
}

/// Variations of one call, for every pair of dtypes.
std::vector<GemmCase> option_cases() {
  constexpr auto kAdd = GradWrite::accumulate;
  const GemmCase variations[] = {
      {.m = 48, .n = 40, .k = 24, .alpha = -0.375F},
      {.m = 48, .n = 40, .k = 24, .write = kAdd},
      {.m = 33, .n = 17, .k = 9, .transpose_a = true, .alpha = 0.5F, .write = kAdd},
      {.m = 48, .n = 40, .k = 24, .layout = {.pad = 8}},
      {.m = 48, .n = 40, .k = 24, .transpose_b = true, .layout = {.pad = 3}},
      {.m = 48, .n = 40, .k = 24, .layout = {.shift = 1, .pad = 1}},
      {.m = 48, .n = 40, .k = 24, .bias = Bias::same_dtype, .layout = {.shift = 1, .pad = 7}},
      {.m = 48, .n = 40, .k = 24, .batch = 3},
      {.m = 17, .n = 9, .k = 5, .transpose_a = true, .batch = 4, .write = kAdd},
      {.m = 48, .n = 40, .k = 24, .transpose_b = true, .batch = 3, .repeat_b = true},
      {.m = 48, .n = 40, .k = 24, .bias = Bias::same_dtype},
      {.m = 48, .n = 40, .k = 24, .bias = Bias::f32},
      {.m = 5, .n = 41, .k = 24, .bias = Bias::f32},
      {.m = 48, .n = 40, .k = 24, .write = kAdd, .bias = Bias::same_dtype},
      {.m = 48, .n = 40, .k = 24, .write = kAdd, .bias = Bias::f32},
      {.m = 48, .n = 40, .k = 24, .batch = 3, .bias = Bias::f32},
      {.m = 256, .n = 128, .k = 4096, .workspace = 0},
      {.m = 256, .n = 128, .k = 4096, .workspace = 100000},
      {.m = 7, .n = 24, .k = 0},
      {.m = 7, .n = 24, .k = 0, .bias = Bias::same_dtype, .layout = {.pad = 8}},
      {.m = 7, .n = 24, .k = 0, .write = kAdd, .bias = Bias::f32},
      {.m = 0, .n = 24, .k = 8},
      {.m = 7, .n = 0, .k = 8},
  };
  std::vector<GemmCase> cases;
  for (const Precision& precision : kPrecisions) {
    for (GemmCase variation : variations) {
      variation.dtype = precision.dtype;
      variation.d_dtype = precision.d_dtype;
      cases.push_back(variation);
    }
  }
  cases.push_back({.m = 256,
                   .n = 128,
                   .k = 512,
                   .dtype = DType::f32,
                   .d_dtype = DType::f32,
                   .allow_tf32 = true});
  return cases;
}

std::vector<GemmCase> activation_cases() {
  std::vector<GemmCase> cases;
  for (const Precision& precision : kPrecisions) {
    for (const ActivationKind kind : {ActivationKind::relu, ActivationKind::gelu_tanh,
                                      ActivationKind::gelu_erf, ActivationKind::silu}) {
      for (const Bias bias : {Bias::none, Bias::same_dtype, Bias::f32}) {
        for (const bool keep : {false, true}) {
          for (const std::int64_t cols : {64, 37}) {  // with and without 16-byte vectors
            cases.push_back({.m = 50,
                             .n = cols,
                             .k = 16,
                             .dtype = precision.dtype,
                             .d_dtype = precision.d_dtype,
                             .bias = bias,
                             .activation = kind,
                             .keep_pre_activation = keep});
          }
        }
      }
    }
    cases.push_back({.m = 9,
                     .n = 1160,
                     .k = 16,
                     .dtype = precision.dtype,
                     .d_dtype = precision.d_dtype,
                     .batch = 2,
                     .bias = Bias::same_dtype,
                     .activation = ActivationKind::silu,
                     .keep_pre_activation = true,
                     .layout = {.pad = 8}});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Transposed, CudaGemm, ::testing::ValuesIn(transposed_cases()),
                         NameOfCase());
INSTANTIATE_TEST_SUITE_P(Options, CudaGemm, ::testing::ValuesIn(option_cases()), NameOfCase());
INSTANTIATE_TEST_SUITE_P(Activation, CudaGemm, ::testing::ValuesIn(activation_cases()),
                         NameOfCase());

class CudaGemmContract : public CudaTest {};

TEST_F(CudaGemmContract, MultipliesF32ExactlyUnlessTf32IsAllowed) {
  // 1 + 2^-12 needs 12 bits of mantissa; TF32 keeps 10 and would lose the fraction. All sums are
  // exact.
  const GemmCase c{.m = 64, .n = 64, .k = 64, .dtype = DType::f32, .d_dtype = DType::f32};
  const double value = 1.0 + 0x1p-12;
  const CudaTensor a(std::vector<double>(64 * 64, value), {64, 64}, DType::f32);
  const CudaTensor b(std::vector<double>(64 * 64, 1.0), {64, 64}, DType::f32);
  const CudaTensor d = CudaTensor::poisoned({64, 64}, DType::f32);
  launch_with_workspace(
      make_args(
          c, {.a = a.tensor(), .b = b.tensor(), .d = d.tensor(), .bias = {}, .pre_activation = {}}),
      d.tensor());
  EXPECT_EQ(d.values(), std::vector<double>(64 * 64, 64.0 * value));
}

TEST_F(CudaGemmContract, LeavesDAloneWhenTheWriteIsSkipped) {
  GemmCase c{.m = 8, .n = 8, .k = 8};
  const Fixture device(c);
  const CudaTensor d(std::vector<double>(64, 3.0), {8, 8}, DType::bf16);
  c.write = GradWrite::skip;
  GemmOperands operands = device.on_device();
  operands.d = d.tensor();
  launch_with_workspace(make_args(c, operands), d.tensor());
  EXPECT_EQ(d.values(), std::vector<double>(64, 3.0));
}

TEST_F(CudaGemmContract, RejectsADtypeThatCudaDoesNotMultiply) {
  const GemmCase c{.m = 8, .n = 8, .k = 8, .dtype = DType::f64, .d_dtype = DType::f64};
  const Fixture device(c);
  EXPECT_THROW(launch_with_workspace(make_args(c, device.on_device()), device.d.tensor()),
               DTypeError);
}

}  // namespace
}  // namespace lamina::testing
