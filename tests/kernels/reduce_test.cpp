// SPDX-License-Identifier: MIT
// Sum and ColumnSum on CUDA against the CPU kernels in f64.
#include "core/kernels/reduce.h"

#include "tests/kernels/cuda_run.h"

namespace lamina::testing {
namespace {

class CudaReduce : public CudaTestWith<DType> {
 protected:
  Generator generator_{37};
};

/// A sum of n numbers of size 1 in f32: the error of the tree stays below sqrt(n) * 2^-20.
double sum_error(std::int64_t n) {
  return 1e-6 * std::sqrt(static_cast<double>(n)) + 1e-6;
}

TEST_P(CudaReduce, SumsAllElements) {
  for (const auto [rows, cols] :
       {Extent{1, 1}, {1, 7}, {6, 1}, {37, 33}, {8, 64}, {300, 130}, {40, 2056}, {1, 100003}}) {
    for (const Layout layout : kLayouts) {
      for (const DType out : {GetParam(), DType::f32}) {
        SCOPED_TRACE(cat(rows, " x ", cols, " to ", out, ", shift ", layout.shift));
        const auto x = CudaTensor::normal({rows, cols}, GetParam(), generator_, 1.0, 0.0, layout);
        const auto y = CudaTensor::poisoned({1}, out);
        const Tensor want = y.reference(), x_ref = x.reference();
        run_on(kCpu,
               kernels::Sum{
                   .x = lamina::rows(x_ref), .y = flat(want), .factor = 0.5, .workspace = {}});
        run_on(kCuda, kernels::Sum{.x = lamina::rows(x.tensor()),
                                   .y = flat(y.tensor()),
                                   .factor = 0.5,
                                   .workspace = {}});
        ASSERT_TRUE(all_close(y.values(), want.to_vector<double>(),
                              f32_arithmetic(out, sum_error(rows * cols))));
        ASSERT_TRUE(y.guards_intact());
      }
    }
  }
}

TEST_P(CudaReduce, SumsNothingToZero) {
  const Tensor x = empty({0, 16}, GetParam(), kCuda);
  const auto y = CudaTensor::poisoned({1}, DType::f32);
  run_on(kCuda, kernels::Sum{.x = rows(x), .y = flat(y.tensor()), .factor = 1.0, .workspace = {}});
  EXPECT_EQ(y.values()[0], 0.0);
}

/// x is [repeats * rows, cols].
struct ColumnCase {
  std::int64_t repeats, rows, cols;
};

constexpr ColumnCase kColumns[] = {{1, 1, 1},     {1, 3, 9},     {7, 1, 33},
                                   {500, 1, 8},   {40, 6, 64},   {16, 5, 130},
                                   {2000, 1, 96}, {300, 2, 257}, {33, 1, 1536}};

TEST_P(CudaReduce, SumsColumnsWithAndWithoutAFactor) {
  for (const ColumnCase& shape : kColumns) {
    for (const Layout layout : kLayouts) {
      for (const bool has_factor : {false, true}) {
        for (const DType out : {GetParam(), DType::f32}) {
          for (const GradWrite write : kWrites) {
            SCOPED_TRACE(cat(shape.repeats, " x ", shape.rows, " x ", shape.cols, ", shift ",
                             layout.shift, ", factor ", has_factor, " to ", out));
            const Shape x_shape{shape.repeats * shape.rows, shape.cols};
            const auto x = CudaTensor::normal(x_shape, GetParam(), generator_, 1.0, 0.0, layout);
            const auto factor =
                has_factor ? CudaTensor::normal(x_shape, GetParam(), generator_, 1.0, 0.0, layout)
                           : CudaTensor();
            const auto y = gradient_for(write, {shape.rows, shape.cols}, out, generator_, layout);
            const Tensor want = y.reference(), x_ref = x.reference();
            const Tensor factor_ref = factor.reference();
            run_on(kCpu, kernels::ColumnSum{.x = rows(x_ref),
                                            .factor = rows(factor_ref),
                                            .y = rows(want),
                                            .write = write,
                                            .workspace = {}});
            run_on(kCuda, kernels::ColumnSum{.x = rows(x.tensor()),
                                             .factor = rows(factor.tensor()),
                                             .y = rows(y.tensor()),
                                             .write = write,
                                             .workspace = {}});
            ASSERT_TRUE(all_close(y.values(), want.to_vector<double>(),
                                  f32_arithmetic(out, sum_error(shape.repeats))));
            ASSERT_TRUE(y.guards_intact());
          }
        }
      }
    }
  }
}

TEST_P(CudaReduce, GivesTheSameBitsEveryTime) {
  const auto x = CudaTensor::normal({4096, 72}, GetParam(), generator_);
  const auto sum = CudaTensor::poisoned({1}, DType::f32);
  const auto columns = CudaTensor::poisoned({1, 72}, DType::f32);
  expect_same_bits([&] {
    run_on(kCuda,
           kernels::Sum{
               .x = rows(x.tensor()), .y = flat(sum.tensor()), .factor = 1.0, .workspace = {}});
    run_on(kCuda, kernels::ColumnSum{.x = rows(x.tensor()),
                                     .factor = {},
                                     .y = rows(columns.tensor()),
                                     .write = GradWrite::overwrite,
                                     .workspace = {}});
    std::vector<double> values = columns.values();
    values.push_back(sum.values()[0]);
    return values;
  });
}

TEST_P(CudaReduce, ReachesElementsBeyondTwoToThe31) {
  constexpr std::int64_t kCols = 32768, kRows = 65537;  // 2^31 + 2^15 elements
  const Tensor x = full({kRows, kCols}, 0.0, GetParam(), kCuda);
  x.slice(0, kRows - 1, kRows).fill(1.0);
  const auto sum = CudaTensor::poisoned({1}, DType::f32);
  run_on(kCuda,
         kernels::Sum{.x = rows(x), .y = flat(sum.tensor()), .factor = 1.0, .workspace = {}});
  EXPECT_EQ(sum.values()[0], static_cast<double>(kCols));
  const auto columns = CudaTensor::poisoned({1, kCols}, DType::f32);
  run_on(kCuda, kernels::ColumnSum{.x = rows(x),
                                   .factor = {},
                                   .y = rows(columns.tensor()),
                                   .write = GradWrite::overwrite,
                                   .workspace = {}});
  EXPECT_THAT(columns.values(), ::testing::Each(1.0));
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaReduce, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
