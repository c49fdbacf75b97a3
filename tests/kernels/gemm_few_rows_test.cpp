// SPDX-License-Identifier: MIT
// Products of few rows against the CPU kernel in f64.
#include "cuda_kernels/gemm_few_rows.h"

#include "tests/kernels/gemm_case.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lamina::testing {
namespace {

GemmCase few_rows(std::int64_t m, std::int64_t n, std::int64_t k) {
  return {.m = m, .n = n, .k = k, .transpose_b = true};
}

/// Columns that fill a block or not, and k with less than a pack for each lane, with a part of a
/// warp's chunks, and with more than all warps read at once.
std::vector<GemmCase> sizes() {
  std::vector<GemmCase> cases;
  for (const std::int64_t m : {1, 2, 7, 8}) {
    for (const std::int64_t n : {1, 8, 13, 768}) {
      for (const std::int64_t k : {8, 40, 192, 768, 3080, 4096})
        cases.push_back(few_rows(m, n, k));
    }
  }
  cases.push_back(few_rows(1, 50304, 768));
  return cases;
}

std::vector<GemmCase> options() {
  std::vector<GemmCase> cases;
  for (GemmCase c : {few_rows(3, 37, 776), few_rows(8, 64, 64)}) {
    for (const Bias bias : {Bias::none, Bias::same_dtype, Bias::f32}) {
      c.bias = bias;
      c.layout = {.shift = 0, .pad = 8};
      cases.push_back(c);
      for (const ActivationKind kind : {ActivationKind::relu, ActivationKind::gelu_tanh,
                                        ActivationKind::gelu_erf, ActivationKind::silu}) {
        c.activation = kind;
        c.alpha = -0.75F;
        cases.push_back(c);
        c.keep_pre_activation = true;
        cases.push_back(c);
        c.keep_pre_activation = false;
      }
      c.activation.reset();
    }
  }
  return cases;
}

std::vector<GemmCase> in_all_dtypes(const std::vector<GemmCase>& cases) {
  std::vector<GemmCase> all;
  for (GemmCase c : cases) {
    for (const DType dtype : {DType::bf16, DType::f16}) {
      for (const DType d_dtype : {dtype, DType::f32}) {
        c.dtype = dtype, c.d_dtype = d_dtype;
        all.push_back(c);
      }
    }
  }
  return all;
}

using CudaFewRows = CudaTestWith<GemmCase>;

INSTANTIATE_TEST_SUITE_P(Sizes, CudaFewRows, ::testing::ValuesIn(in_all_dtypes(sizes())),
                         NameOfCase());
INSTANTIATE_TEST_SUITE_P(Options, CudaFewRows, ::testing::ValuesIn(in_all_dtypes(options())),
                         NameOfCase());

TEST_P(CudaFewRows, MatchTheCpuEachTimeWithTheSameBits) {
  const GemmCase& c = GetParam();
  const Fixture device(c);
  const Expectation expectation(c, device);
  const kernels::Gemm args = make_args(c, device.on_device());
  ASSERT_TRUE(has_few_rows(args));
  launch_with_workspace(args, device.d.tensor());
  expectation.check(c, device);
  const std::vector<double> first = device.d.values();
  device.d.tensor().fill(0.0);
  launch_with_workspace(args, device.d.tensor());
  EXPECT_EQ(device.d.values() == first, true);
}

using CudaFewRowsContract = CudaTest;

TEST_F(CudaFewRowsContract, LeaveOtherProductsToCublas) {
  const auto takes = [](const GemmCase& c) {
    const Fixture device(c);
    return has_few_rows(make_args(c, device.on_device()));
  };
  const GemmCase taken = few_rows(8, 16, 64);
  EXPECT_TRUE(takes(taken));
  std::vector<GemmCase> others(9, taken);
  others[0].m = 9;
  others[1].k = 63;
  others[2].dtype = others[2].d_dtype = DType::f32;
  others[3].transpose_b = false;
  others[4].transpose_a = true;
  others[5].batch = 2;
  others[6].write = GradWrite::accumulate;
  others[7].layout = {.shift = 1};  // elements: not aligned to 16 bytes
  others[8].layout = {.pad = 4};
  for (const GemmCase& other : others)
    EXPECT_FALSE(takes(other)) << other;
}

TEST_F(CudaFewRowsContract, ReadWhatTheKernelBeforeHasWritten) {
  // The second product takes its place while the first one runs, which writes its a.
  const GemmCase first = few_rows(1, 768, 768);
  GemmCase second = few_rows(1, 4096, 768);
  second.d_dtype = DType::f32;
  const Fixture one(first), two(second);
  GemmOperands of_second = two.on_device();
  of_second.a = one.d.tensor();
  one.b.tensor().fill(1.0);
  two.b.tensor().fill(1.0);
  const Stream stream = stream_of(of_second.a);
  for (int i = 1; i <= 50; ++i) {  // all sums are exact
    one.a.tensor().fill(i);
    launch(stream, make_args(first, one.on_device()));
    launch(stream, make_args(second, of_second));
    ASSERT_EQ(two.d.tensor().to_vector<double>(), std::vector<double>(4096, 768.0 * 768.0 * i));
  }
}

}  // namespace
}  // namespace lamina::testing
