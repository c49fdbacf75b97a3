// SPDX-License-Identifier: MIT
// LayerNorm on both devices where rounding, cancellation or order could show: special data, NaN and
// infinity, identities of the gradient, and results that must agree bit for bit; on CUDA also sizes
// beyond 32 bits.
#include "core/storage.h"
#include "tests/kernels/layer_norm_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string_view>
#include <vector>

namespace lamina::testing::layer_norm {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// One size for each way that a row is held, among them one with a misaligned row length.
constexpr std::int64_t kCols[] = {64, 129, 768, 4096, 9001, 20000};

using NormSpecial = DeviceTest;

INSTANTIATE_TEST_SUITE_P(Cpu, NormSpecial, ::testing::Values(kCpu));
INSTANTIATE_TEST_SUITE_P(Cuda, NormSpecial, ::testing::Values(kCuda));

/// Rows of numbers that are hard on the moments.
struct Data {
  std::string_view name;
  double offset = 0.0;  // of the mean, for tolerances
  double error = 1e-6;  // of rstd, and of y in f32
  double eps = 1e-5;
  std::function<double(double normal, std::int64_t col, std::int64_t cols)> value{};
};

std::vector<Data> special_data() {
  const auto shifted = [](double by) {
    return [by](double normal, std::int64_t, std::int64_t) { return by + normal; };
  };
  const auto scaled = [](double by) {
    return [by](double normal, std::int64_t, std::int64_t) { return by * normal; };
  };
  const auto outlier = [](double where) {
    return [where](double normal, std::int64_t col, std::int64_t cols) {
      const auto at = static_cast<std::int64_t>(where * static_cast<double>(cols - 1));
      return col == at ? 1e4 : normal;
    };
  };
  return {
      {.name = "offset 1e2", .offset = 1e2, .error = 2e-6, .value = shifted(1e2)},
      {.name = "offset -1e3", .offset = 1e3, .error = 2e-6, .value = shifted(-1e3)},
      {.name = "offset 1e4", .offset = 1e4, .error = 2e-6, .value = shifted(1e4)},
      {.name = "offset 1e5", .offset = 1e5, .error = 4e-6, .value = shifted(1e5)},
      {.name = "scale 1e8", .offset = 1e8, .value = scaled(1e8)},
      {.name = "scale 1e-8", .eps = 0.0, .value = scaled(1e-8)},
      {.name = "denormal", .value = scaled(1e-40)},
      {.name = "first is an outlier", .offset = 1e2, .error = 2e-6, .value = outlier(0.0)},
      {.name = "middle is an outlier", .offset = 1e2, .error = 2e-6, .value = outlier(0.5)},
      {.name = "last is an outlier", .offset = 1e2, .error = 2e-6, .value = outlier(1.0)},
      {.name = "alternating",
       .value = [](double, std::int64_t col, std::int64_t) { return col % 2 == 0 ? 3.0 : -3.0; }},
      {.name = "alternating around 1e3",
       .offset = 1e3,
       .error = 2e-6,
       .value = [](double, std::int64_t col,
                   std::int64_t) { return col % 2 == 0 ? 1e3 + 1.0 : 1e3 - 1.0; }},
  };
}

TEST_P(NormSpecial, StaysAccurateForDataThatIsHardOnTheMoments) {
  for (const Data& data : special_data()) {
    for (const NormDTypes& dtypes : norm_dtypes_of(GetParam())) {
      for (const std::int64_t cols : kCols) {
        SCOPED_TRACE(data.name);
        Problem p{.dtypes = dtypes, .extent = {3, cols}};
        p.offset = data.offset;
        p.error = data.error;
        p.eps = data.eps;
        p = problem_on(GetParam(), p);
        NormOperands on(p);
        Generator generator(11);
        std::vector<double> values = normal_values(3 * cols, generator);
        for (std::size_t i = 0; i < values.size(); ++i)
          values[i] = data.value(values[i], static_cast<std::int64_t>(i) % cols, cols);
        on.set_x(values);
        check_forward(on);
        BackwardOperands back(p);
        back.set_x(values);
        check_backward(back);
      }
    }
  }
}

TEST_P(NormSpecial, GivesTheBiasForConstantRows) {
  for (const double value : {0.0, 3.0, -1e4, 1e8}) {
    for (const std::int64_t cols : {1, 100, 768, 4096, 9001}) {
      SCOPED_TRACE(cat(value, " [3, ", cols, "]"));
      NormOperands on(
          {.dtypes = {DType::f32, DType::f32}, .extent = {3, cols}, .device = GetParam()});
      const std::vector<double> values(static_cast<std::size_t>(3 * cols), value);
      on.set_x(values);
      run_on(GetParam(), on.args());
      const std::vector<double> bias = on.bias.values();
      std::vector<double> want;
      for (int row = 0; row < 3; ++row)
        want.insert(want.end(), bias.begin(), bias.end());
      // What is left of x - mean is below 1e-13 of x; rstd is 316.
      EXPECT_TRUE(all_close(on.y.values(), want, {.absolute = 1e-6 + 1e-10 * std::abs(value)}));
    }
  }
}

TEST_P(NormSpecial, GivesTheBiasWhereTheWeightIsZeroAndScalesByTinyOnes) {
  for (const std::int64_t cols : kCols) {
    NormOperands on(
        {.dtypes = {DType::f32, DType::f32}, .extent = {3, cols}, .device = GetParam()});
    std::vector<double> weights(static_cast<std::size_t>(cols), 0.0);
    for (std::size_t c = 1; c < weights.size(); c += 2)
      weights[c] = 1e-30;
    on.weight = CudaTensor(weights, {cols}, DType::f32, {.device = GetParam()});
    run_on(GetParam(), on.args());
    const std::vector<double> y = on.y.values(), bias = on.bias.values();
    for (std::size_t i = 0; i < y.size(); ++i)
      ASSERT_EQ(y[i], bias[i % weights.size()]) << cols << " element " << i;
    on.bias = {};
    run_on(GetParam(), on.args());
    const Reference want = reference_of(on);
    EXPECT_TRUE(all_close(on.y.values(), want.y.to_vector<double>(), {.absolute = 4e-35}));
  }
}

/// Without weight, bias and eps: mean 0, variance 1; and the same for a row that is shifted by a
/// power of two, where neither has more digits than f32.
TEST_P(NormSpecial, GivesMeanZeroAndVarianceOneWhateverARowIsShiftedBy) {
  for (const std::int64_t cols : kCols) {
    Problem p = problem_on(GetParam(), {.dtypes = {DType::f32, DType::f32}, .extent = {3, cols}});
    p.has_affine = false;
    p.eps = 0.0;
    NormOperands on(p);
    std::vector<double> values = on.x.values();
    for (double& value : values)
      value = std::round(value * 1024.0) / 1024.0;
    on.set_x(values);
    run_on(GetParam(), on.args());
    const std::vector<double> y = on.y.values();
    const auto width = static_cast<std::size_t>(cols);
    for (std::size_t row = 0; row < 3; ++row) {
      double sum = 0.0, squares = 0.0;
      for (std::size_t c = 0; c < width; ++c) {
        sum += y[row * width + c];
        squares += y[row * width + c] * y[row * width + c];
      }
      EXPECT_LE(std::abs(sum), 2.0 * p.error * static_cast<double>(cols));
      EXPECT_NEAR(squares / static_cast<double>(cols), 1.0, 4.0 * p.error);
    }
    for (double& value : values)
      value += 512.0;
    on.set_x(values);
    run_on(GetParam(), on.args());
    EXPECT_TRUE(all_close(on.y.values(), y, {.absolute = 4.0 * p.error})) << cols;
  }
}

/// x [5, cols] with a NaN in row 2 and infinities in rows 3 and 4.
std::vector<double> spoiled(std::vector<double> values, std::int64_t cols) {
  values[static_cast<std::size_t>(2 * cols + cols / 2)] = kNaN;
  values[static_cast<std::size_t>(3 * cols + cols / 3)] = kInfinity;
  values[static_cast<std::size_t>(4 * cols + cols / 5)] = -kInfinity;
  return values;
}

void expect_spoiled_rows_only(const std::vector<double>& got, const std::vector<double>& clean,
                              std::int64_t cols) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::int64_t row = static_cast<std::int64_t>(i) / cols;
    if (row >= 2) {
      ASSERT_FALSE(std::isfinite(got[i])) << "row " << row << " element " << i;
    } else {
      ASSERT_EQ(got[i], clean[i]) << "row " << row << " element " << i;
    }
  }
}

/// Sums over rows: only the columns of the bad elements are spoiled.
void expect_spoiled_columns_only(const std::vector<double>& got, const std::vector<double>& clean,
                                 std::int64_t cols) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto col = static_cast<std::int64_t>(i);
    if (col == cols / 2 || col == cols / 3 || col == cols / 5) {
      ASSERT_FALSE(std::isfinite(got[i])) << "column " << i;
    } else {
      ASSERT_EQ(got[i], clean[i]) << "column " << i;
    }
  }
}

TEST_P(NormSpecial, KeepsNanAndInfinityInTheirRowAndColumn) {
  for (const NormDTypes& dtypes : norm_dtypes_of(GetParam())) {
    for (const std::int64_t cols : kCols) {
      SCOPED_TRACE(cat(dtypes, " ", cols));
      const Problem p{.dtypes = dtypes, .extent = {5, cols}, .device = GetParam()};
      NormOperands on(p);
      run_on(GetParam(), on.args());
      const std::vector<double> clean = on.y.values();
      on.set_x(spoiled(on.x.values(), cols));
      run_on(GetParam(), on.args());
      expect_spoiled_rows_only(on.y.values(), clean, cols);

      BackwardOperands back(p);
      run_on(GetParam(), back.args());
      const std::vector<double> dx = back.dx.values(), dweight = back.dweight.values(),
                                dbias = back.dbias.values();
      back.set_dy(spoiled(back.dy.values(), cols));
      run_on(GetParam(), back.args());
      expect_spoiled_rows_only(back.dx.values(), dx, cols);
      expect_spoiled_columns_only(back.dweight.values(), dweight, cols);
      expect_spoiled_columns_only(back.dbias.values(), dbias, cols);
    }
  }
}

/// With weight 1 and eps 0, dx is orthogonal to 1 and to the normalised row.
TEST_P(NormSpecial, GivesADxThatIsOrthogonalToTheRowAndToOnes) {
  for (const std::int64_t cols : kCols) {
    SCOPED_TRACE(cols);
    Problem p{.dtypes = {DType::f32, DType::f32}, .extent = {5, cols}};
    p.has_affine = false;
    p.eps = 0.0;
    p.device = GetParam();
    const BackwardOperands on(p, {.dx_drop = false, .dweight = false, .dbias = false});
    run_on(GetParam(), on.args());
    const std::vector<double> dx = on.dx.values(), x = on.x.values(), mean = on.mean.values(),
                              rstd = on.rstd.values();
    for (std::size_t row = 0; row < 5; ++row) {
      double with_ones = 0.0, with_row = 0.0, size = 0.0, size_with_row = 0.0;
      for (std::size_t i = row * static_cast<std::size_t>(cols);
           i < (row + 1) * static_cast<std::size_t>(cols); ++i) {
        const double h = (x[i] - mean[row]) * rstd[row];
        with_ones += dx[i];
        with_row += dx[i] * h;
        size += std::abs(dx[i]);
        size_with_row += std::abs(dx[i] * h);
      }
      EXPECT_LE(std::abs(with_ones), 1e-6 * size) << "row " << row;
      EXPECT_LE(std::abs(with_row), 1e-6 * size_with_row) << "row " << row;
    }
  }
}

/// Powers of two change exponents only: without eps, the same y comes out bit for bit.
TEST_P(NormSpecial, DoesNotSeeThePowerOfTwoThatARowIsScaledBy) {
  for (const std::int64_t cols : kCols) {
    Problem p{.dtypes = {DType::f32, DType::f32}, .extent = {5, cols}};
    p.eps = 0.0;
    p.device = GetParam();
    NormOperands on(p);
    run_on(GetParam(), on.args());
    const std::vector<double> x = on.x.values(), y = on.y.values();
    for (const double scale : {0x1p-26, 0x1p26}) {
      std::vector<double> values = x;
      for (double& value : values)
        value *= scale;
      on.set_x(values);
      run_on(GetParam(), on.args());
      EXPECT_EQ(on.y.values() == y, true) << cols << " scale " << scale;
    }
  }
}

TEST_P(NormSpecial, IsLinearInDy) {
  for (const std::int64_t cols : kCols) {
    SCOPED_TRACE(cols);
    const Problem p{.dtypes = {DType::f32, DType::f32}, .extent = {37, cols}, .device = GetParam()};
    const auto outputs = [](const BackwardOperands& on) {
      run_on(GetParam(), on.args());
      return std::vector<std::vector<double>>{on.dx.values(), on.dx_drop.values(),
                                              on.dweight.values(), on.dbias.values(),
                                              on.column_sum.values()};
    };
    BackwardOperands on(p);
    const std::vector<double> dy = on.dy.values();
    std::vector<std::vector<double>> once = outputs(on);
    std::vector<double> other(dy.rbegin(), dy.rend()), twice = dy, both = dy;
    for (std::size_t i = 0; i < dy.size(); ++i) {
      twice[i] *= 2.0;
      both[i] = static_cast<double>(static_cast<float>(dy[i] + other[i]));
    }
    on.set_dy(other);
    const std::vector<std::vector<double>> of_other = outputs(on);
    on.set_dy(both);
    const std::vector<std::vector<double>> of_both = outputs(on);
    on.set_dy(twice);
    const std::vector<std::vector<double>> of_twice = outputs(on);
    for (std::size_t k = 0; k < once.size(); ++k) {
      std::vector<double> sum = once[k];
      for (std::size_t i = 0; i < sum.size(); ++i) {
        sum[i] += of_other[k][i];
        once[k][i] *= 2.0;
      }
      EXPECT_EQ(of_twice[k] == once[k], true) << "output " << k;
      EXPECT_LE(relative_l2(of_both[k], sum), 2e-6) << "output " << k;
    }
  }
}

/// A matrix whose rows are all alike, against one row and, for the sums, its multiple.
void check_many_elements(std::int64_t row_count, std::int64_t cols) {
  SCOPED_TRACE(cat("[", row_count, ", ", cols, "]"));
  const Problem one{.dtypes = {DType::bf16, DType::f32}, .extent = {1, cols}};
  const NormOperands first(one);
  run_on(kCuda, first.args());
  const BackwardOperands back(one, {.dx_drop = false, .column_sum = false});
  run_on(kCuda, back.args());
  const Shape shape{row_count, cols};
  const auto repeated = [&](const CudaTensor& row) {
    const Tensor values = row.tensor().clone();
    const Tensor all = empty(shape, DType::bf16, kCuda);
    all.copy_from(Tensor(values.storage(), 0, shape, {0, 1}, DType::bf16));
    return all;
  };
  const auto expect_rows_like = [&](const Tensor& got, const CudaTensor& row, const char* name) {
    const std::vector<double> want = row.values();
    const std::int64_t past_31 = (std::int64_t{1} << 31) / cols, past_32 = 2 * past_31;
    for (const std::int64_t at : {std::int64_t{0}, std::min(past_31, row_count - 2),
                                  std::min(past_32, row_count - 2), row_count - 1}) {
      const std::vector<double> values = got.slice(0, at, at + 1).to_vector<double>();
      // Another variant than that of one row may have run.
      EXPECT_TRUE(all_close(values, want, {.dtype = DType::bf16, .absolute = 1e-6}))
          << name << " row " << at;
    }
  };
  const Tensor mean = empty({row_count}, DType::f32, kCuda), rstd = empty_like(mean);
  const Tensor x = repeated(first.x), y = full(shape, kNaN, DType::bf16, kCuda);
  LayerNorm forward = first.args();
  forward.x = rows(x);
  forward.y = rows(y);
  forward.mean = flat(mean);
  forward.rstd = flat(rstd);
  run_on(kCuda, forward);
  expect_rows_like(y, first.y, "y");
  EXPECT_EQ(mean.slice(0, row_count - 1, row_count).to_vector<float>()[0],
            mean.slice(0, 0, 1).to_vector<float>()[0]);

  x.copy_from(repeated(back.x));
  const Tensor dy = repeated(back.dy);
  y.fill(kNaN);  // dx
  mean.fill(back.mean.values()[0]);
  rstd.fill(back.rstd.values()[0]);
  LayerNormBackward backward = back.args();
  backward.x = rows(x);
  backward.dy = rows(dy);
  backward.dx = rows(y);
  backward.mean = flat(mean);
  backward.rstd = flat(rstd);
  std::vector<double> dweight = back.dweight.values(), dbias = back.dbias.values();
  for (std::vector<double>* const sums : {&dweight, &dbias}) {
    for (double& value : *sums)
      value *= static_cast<double>(row_count);
  }
  run_on(kCuda, backward);
  expect_rows_like(y, back.dx, "dx");
  // Thousands of equal terms, added up one after the other, are all rounded the same way.
  EXPECT_LE(relative_l2(back.dweight.values(), dweight), 1e-4);
  EXPECT_LE(relative_l2(back.dbias.values(), dbias), 1e-4);
}

using CudaNormSpecial = CudaTest;

/// The kernels guess the mean of a row by the first elements that its first thread reads. How far
/// the guess may be off before the moments are taken again decides about the error.
TEST_F(CudaNormSpecial, StaysAccurateForRowsWhoseMeanIsFarFromTheGuess) {
  constexpr std::int64_t kRows = 1000;
  constexpr double kMostDeviations = 4.0;
  for (const std::int64_t cols : {128, 129, 768, 4096, 9001, 12288, 20000}) {
    NormOperands on({.dtypes = {DType::f32, DType::f32}, .extent = {kRows, cols}});
    Generator generator(12);
    std::vector<double> values = normal_values(kRows * cols, generator);
    const std::int64_t pack = cols % 4 == 0 ? 4 : 1;
    // Between the first thread's packs: this or a multiple.
    const std::int64_t pitch = std::min<std::int64_t>(cols / pack / 2, 32) * pack;
    for (std::int64_t i = 0; i < kRows * cols; ++i) {
      const std::int64_t row = i / cols;
      if (i % cols % pitch >= pack) continue;
      values[static_cast<std::size_t>(i)] = kMostDeviations * static_cast<double>(row) / kRows;
    }
    on.set_x(values);
    check_forward(on);
  }
}

TEST_F(CudaNormSpecial, ReachesElementsBeyondTwoToThe32) {
  check_many_elements((std::int64_t{1} << 16) + 3, 65536);
  current_allocator(kCuda).trim();
}

TEST_F(CudaNormSpecial, ReachesRowsBeyondTwoToThe24) {
  check_many_elements((std::int64_t{1} << 24) + 3, 8);
  current_allocator(kCuda).trim();
}

}  // namespace
}  // namespace lamina::testing::layer_norm
