// SPDX-License-Identifier: MIT
// LayerNorm on CUDA against the CPU kernel in f64.
#include "core/kernels/layer_norm.h"

#include "tests/kernels/norm_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace lamina::testing {
namespace {

using kernels::LayerNorm;
using kernels::LayerNormBackward;

constexpr double kEps = 1e-5;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Problem {
  NormDTypes dtypes;
  Extent extent;
  bool has_residual = false;
  float drop_p = 0.0F;
  Layout layout{};
  double offset = 0.0;
  bool has_affine = true;
  GradWrite write = GradWrite::overwrite;
};

std::ostream& operator<<(std::ostream& out, const Problem& p) {
  return out << p.dtypes << " [" << p.extent.rows << ", " << p.extent.cols << "] residual "
             << p.has_residual << " drop " << p.drop_p << " shift " << p.layout.shift << " pad "
             << p.layout.pad << " affine " << p.has_affine << " write "
             << static_cast<int>(p.write);
}

/// Plain, with a residual, and with residual and dropout.
Problem problem_of_mode(const NormDTypes& dtypes, const Extent& extent, std::size_t mode) {
  return {.dtypes = dtypes,
          .extent = extent,
          .has_residual = mode % 3 > 0,
          .drop_p = mode % 3 == 2 ? 0.2F : 0.0F};
}

struct Operands {
  CudaTensor x, residual, weight, bias, sum, y, mean, rstd;
  PhiloxKey key{};

  explicit Operands(const Problem& p) {
    Generator generator(static_cast<std::uint64_t>(p.extent.rows * 1000003 + p.extent.cols));
    const auto [rows, cols] = p.extent;
    const Shape shape{rows, cols};
    x = CudaTensor::normal(shape, p.dtypes.rows, generator, 1.0, p.offset, p.layout);
    if (p.has_residual) {
      residual = CudaTensor::normal(shape, p.dtypes.rows, generator, 1.5, 0.5, p.layout);
      sum = CudaTensor::poisoned(shape, p.dtypes.rows, p.layout);
    }
    if (p.has_affine) {
      const Layout shifted{p.layout.shift, 0};
      weight = CudaTensor::normal({cols}, p.dtypes.parameters, generator, 0.3, 1.0, shifted);
      bias = CudaTensor::normal({cols}, p.dtypes.parameters, generator, 0.5, 0.0, shifted);
    }
    y = CudaTensor::poisoned(shape, p.dtypes.rows, p.layout);
    mean = CudaTensor::poisoned({rows}, DType::f32);
    rstd = CudaTensor::poisoned({rows}, DType::f32);
    key = generator.next();
  }

  LayerNorm args(float drop_p) const {
    return {.x = rows(x.tensor()),
            .residual = rows(residual.tensor()),
            .weight = flat(weight.tensor()),
            .bias = flat(bias.tensor()),
            .sum = rows(sum.tensor()),
            .y = rows(y.tensor()),
            .mean = flat(mean.tensor()),
            .rstd = flat(rstd.tensor()),
            .eps = kEps,
            .drop_p = drop_p,
            .key = key};
  }
};

/// The f64 results of normalising `x` (with `residual` and dropout, when given).
struct Reference {
  Tensor x, residual, weight, bias, sum, y, mean, rstd;

  Reference(const Operands& on, const Tensor& input, const Tensor& added, float drop_p)
      : x(input),
        residual(added),
        weight(on.weight.reference()),
        bias(on.bias.reference()),
        sum(added ? empty_like(input) : Tensor()),
        y(empty_like(input)),
        mean(empty({input.dim(0)}, DType::f64)),
        rstd(empty_like(mean)) {
    run(LayerNorm{.x = rows(x),
                  .residual = rows(residual),
                  .weight = flat(weight),
                  .bias = flat(bias),
                  .sum = rows(sum),
                  .y = rows(y),
                  .mean = flat(mean),
                  .rstd = flat(rstd),
                  .eps = kEps,
                  .drop_p = drop_p,
                  .key = on.key},
        CpuStream{});
  }
};

void check_forward(const Problem& p) {
  SCOPED_TRACE(cat(p));
  const Operands on(p);
  run_on(kCuda, on.args(p.drop_p));

  Tensor normalised = on.x.reference();
  if (p.has_residual) {
    const Reference summed(on, normalised, on.residual.reference(), p.drop_p);
    EXPECT_TRUE(all_close(on.sum.values(), summed.sum.to_vector<double>(),
                          {.dtype = p.dtypes.rows, .absolute = 2e-6}))
        << "sum";
    normalised = on.sum.reference();  // the moments are those of the rounded sum
  }
  const Reference want(on, normalised, Tensor(), 0.0F);
  const double magnitude = 1.0 + std::abs(p.offset);
  EXPECT_TRUE(all_close(on.y.values(), want.y.to_vector<double>(), norm_tolerance(p.dtypes.rows)))
      << "y";
  EXPECT_TRUE(all_close(on.mean.values(), want.mean.to_vector<double>(),
                        {.absolute = 1e-6 * magnitude, .relative = 2e-7}))
      << "mean";
  EXPECT_TRUE(all_close(on.rstd.values(), want.rstd.to_vector<double>(), {.relative = 3e-6}))
      << "rstd";
  for (const CudaTensor* output : {&on.y, &on.mean, &on.rstd}) {
    EXPECT_TRUE(output->guards_intact());
  }
  EXPECT_TRUE(!p.has_residual || on.sum.guards_intact());
}

/// Which gradients are asked for.
struct Wanted {
  bool dx = true, dx_drop = true, dweight = true, dbias = true, column_sum = true;
};

struct BackwardOperands {
  CudaTensor x, dy, dsum, weight, mean, rstd;          // in
  CudaTensor dx, dx_drop, dweight, dbias, column_sum;  // out
  PhiloxKey key{};
  Problem problem;

  BackwardOperands(const Problem& p, const Wanted& wanted) : problem(p) {
    Generator generator(static_cast<std::uint64_t>(p.extent.rows * 1000003 + p.extent.cols + 1));
    const auto [row_count, cols] = p.extent;
    const Shape shape{row_count, cols};
    const DType dtype = p.dtypes.rows;
    x = CudaTensor::normal(shape, dtype, generator, 1.0, p.offset, p.layout);
    dy = CudaTensor::normal(shape, dtype, generator, 1.0, 0.1, p.layout);
    if (p.has_residual) dsum = CudaTensor::normal(shape, dtype, generator, 1.0, 0.0, p.layout);
    if (p.has_affine) {
      weight =
          CudaTensor::normal({cols}, p.dtypes.parameters, generator, 0.3, 1.0, {p.layout.shift, 0});
    }
    set_moments();
    const auto output = [&](bool is_wanted, const Shape& like, DType of, GradWrite write,
                            Layout layout) {
      if (!is_wanted) return CudaTensor();
      return write == GradWrite::accumulate
                 ? CudaTensor::normal(like, of, generator, 1.0, 0.0, layout)
                 : CudaTensor::poisoned(like, of, layout);
    };
    dx = output(wanted.dx, shape, dtype, p.write, p.layout);
    dx_drop = output(wanted.dx_drop, shape, dtype, GradWrite::overwrite, p.layout);
    // dweight comes in the dtype of the weight, dbias in f32.
    dweight = output(wanted.dweight, {cols}, p.dtypes.parameters, p.write, p.layout);
    dbias = output(wanted.dbias, {cols}, DType::f32, p.write, {});
    column_sum = output(wanted.column_sum, {cols}, DType::f32, GradWrite::overwrite, {});
    key = generator.next();
  }

  /// The moments as the forward pass saves them: rounded to f32.
  void set_moments() {
    const std::int64_t cols = problem.extent.cols;
    const std::vector<double> values = x.values();
    std::vector<double> means, rstds;
    for (std::size_t first = 0; first < values.size(); first += static_cast<std::size_t>(cols)) {
      double sum = 0.0, squares = 0.0;
      for (std::size_t c = 0; c < static_cast<std::size_t>(cols); ++c)
        sum += values[first + c];
      const double row_mean = sum / static_cast<double>(cols);
      for (std::size_t c = 0; c < static_cast<std::size_t>(cols); ++c) {
        squares += (values[first + c] - row_mean) * (values[first + c] - row_mean);
      }
      means.push_back(row_mean);
      rstds.push_back(1.0 / std::sqrt(squares / static_cast<double>(cols) + kEps));
    }
    mean = CudaTensor(means, {problem.extent.rows}, DType::f32);
    rstd = CudaTensor(rstds, {problem.extent.rows}, DType::f32);
  }

  LayerNormBackward args() const {
    return {.x = rows(x.tensor()),
            .dy = rows(dy.tensor()),
            .dsum = rows(dsum.tensor()),
            .weight = flat(weight.tensor()),
            .mean = flat(mean.tensor()),
            .rstd = flat(rstd.tensor()),
            .dx = rows(dx.tensor()),
            .dx_drop = rows(dx_drop.tensor()),
            .dweight = flat(dweight.tensor()),
            .dbias = flat(dbias.tensor()),
            .column_sum = flat(column_sum.tensor()),
            .dx_write = problem.write,
            .dweight_write = problem.write,
            .dbias_write = problem.write,
            .drop_p = problem.drop_p,
            .key = key,
            .workspace = {}};
  }
};

/// The f64 results, and for each how far f32 arithmetic may be off (before the final rounding).
struct BackwardReference {
  std::vector<double> dx, dx_drop, dweight, dbias, column_sum;
  std::vector<double> dx_bound, dx_drop_bound, dweight_bound, dbias_bound, column_sum_bound;

  explicit BackwardReference(const BackwardOperands& on) {
    const auto [row_count, cols] = on.problem.extent;
    const Shape shape{row_count, cols};
    const Tensor x = on.x.reference(), dy = on.dy.reference(), dsum = on.dsum.reference();
    const Tensor weight = on.weight.reference();
    const Tensor mean = on.mean.reference(), rstd = on.rstd.reference();
    const Tensor new_dx = on.dx ? on.dx.reference() : zeros(shape, DType::f64);
    const Tensor new_dx_drop = zeros(shape, DType::f64);
    const Tensor new_dweight = on.dweight ? on.dweight.reference() : zeros({cols}, DType::f64);
    const Tensor new_dbias = on.dbias ? on.dbias.reference() : zeros({cols}, DType::f64);
    const Tensor new_column_sum = zeros({cols}, DType::f64);
    const std::vector<double> old_dx = new_dx.to_vector<double>();
    const std::vector<double> old_dweight = new_dweight.to_vector<double>();
    const std::vector<double> old_dbias = new_dbias.to_vector<double>();
    LayerNormBackward args = on.args();
    args.x = rows(x);
    args.dy = rows(dy);
    args.dsum = rows(dsum);
    args.weight = flat(weight);
    args.mean = flat(mean);
    args.rstd = flat(rstd);
    args.dx = rows(new_dx);
    args.dx_drop = on.dx_drop ? rows(new_dx_drop) : Rows{};
    args.dweight = flat(new_dweight);
    args.dbias = flat(new_dbias);
    args.column_sum = flat(new_column_sum);
    run_on(kCpu, args);
    dx = new_dx.to_vector<double>();
    dx_drop = new_dx_drop.to_vector<double>();
    dweight = new_dweight.to_vector<double>();
    dbias = new_dbias.to_vector<double>();
    column_sum = new_column_sum.to_vector<double>();

    const bool accumulates = on.problem.write == GradWrite::accumulate;
    const double keep = 1.0 / (1.0 - static_cast<double>(on.problem.drop_p));
    dx_bound.resize(dx.size());
    dx_drop_bound.resize(dx.size());
    dweight_bound.resize(dweight.size());
    dbias_bound.resize(dweight.size());
    column_sum_bound.resize(dweight.size());
    for (std::size_t c = 0; accumulates && c < dweight.size(); ++c) {
      dweight_bound[c] = kNormArithmetic * std::abs(old_dweight[c]);
      dbias_bound[c] = kNormArithmetic * std::abs(old_dbias[c]);
    }
    const double* const xs = x.data<double>();
    const double* const dys = dy.data<double>();
    const auto width = static_cast<std::size_t>(cols);
    for (std::size_t r = 0; r < static_cast<std::size_t>(row_count); ++r) {
      const double row_mean = mean.data<double>()[r], row_rstd = rstd.data<double>()[r];
      double largest = 0.0;
      const auto g = [&](std::size_t c) {
        return std::abs(dys[r * width + c] * (weight ? weight.data<double>()[c] : 1.0));
      };
      for (std::size_t c = 0; c < width; ++c)
        largest = std::max(largest, g(c));
      for (std::size_t c = 0; c < width; ++c) {
        const std::size_t i = r * width + c;
        const double h = std::abs((xs[i] - row_mean) * row_rstd);
        const double added = dsum ? std::abs(dsum.data<double>()[i]) : 0.0;
        const double terms = row_rstd * largest * (1.0 + h) + added;
        dx_bound[i] = kNormArithmetic * (terms + (accumulates ? std::abs(old_dx[i]) : 0.0));
        dx_drop_bound[i] = kNormArithmetic * keep * terms;
        dweight_bound[c] += kNormArithmetic * std::abs(dys[i]) * h;
        dbias_bound[c] += kNormArithmetic * std::abs(dys[i]);
        column_sum_bound[c] += kNormArithmetic * keep * terms;
      }
    }
  }
};

/// Within the bound plus one rounding to the dtype of the output; an output that is not there
/// passes.
void expect_gradient(const char* name, const CudaTensor& got, const std::vector<double>& want,
                     std::vector<double> bound) {
  if (!got) return;
  for (std::size_t i = 0; i < bound.size(); ++i) {
    bound[i] += ulp_of(got.tensor().dtype(), want[i]);
  }
  EXPECT_TRUE(all_within(got.values(), want, bound)) << name;
  EXPECT_TRUE(got.guards_intact()) << name;
}

void check_backward(const Problem& p, const Wanted& wanted = {}) {
  SCOPED_TRACE(cat(p, " outputs ", wanted.dx, wanted.dx_drop, wanted.dweight, wanted.dbias,
                   wanted.column_sum));
  const BackwardOperands on(p, wanted);
  const BackwardReference want(on);
  run_on(kCuda, on.args());
  expect_gradient("dx", on.dx, want.dx, want.dx_bound);
  expect_gradient("dx_drop", on.dx_drop, want.dx_drop, want.dx_drop_bound);
  expect_gradient("dweight", on.dweight, want.dweight, want.dweight_bound);
  expect_gradient("dbias", on.dbias, want.dbias, want.dbias_bound);
  expect_gradient("column_sum", on.column_sum, want.column_sum, want.column_sum_bound);
}

using CudaLayerNorm = CudaTest;

class CudaLayerNormDTypes : public CudaTestWith<NormDTypes> {};

INSTANTIATE_TEST_SUITE_P(Cuda, CudaLayerNormDTypes, ::testing::ValuesIn(kNormDTypes),
                         name_of_norm_case);

TEST_P(CudaLayerNormDTypes, ForwardMatchesTheReference) {
  std::size_t mode = static_cast<std::size_t>(GetParam().rows);  // all modes over the dtypes
  for (const Extent& extent : kNormExtents)
    check_forward(problem_of_mode(GetParam(), extent, mode++));
  for (const Extent& extent : kNormVariants) {
    for (mode = 0; mode < 3; ++mode)
      check_forward(problem_of_mode(GetParam(), extent, mode));
  }
}

TEST_P(CudaLayerNormDTypes, BackwardMatchesTheReference) {
  std::size_t mode = static_cast<std::size_t>(GetParam().rows) + 1;
  for (const Extent& extent : kNormExtents) {
    Problem p = problem_of_mode(GetParam(), extent, mode++);
    p.write = mode % 2 == 0 ? GradWrite::overwrite : GradWrite::accumulate;
    check_backward(p);
  }
  for (const Extent& extent : kNormVariants) {
    for (mode = 0; mode < 3; ++mode) {
      Problem p = problem_of_mode(GetParam(), extent, mode);
      check_backward(p, {.dx_drop = false, .column_sum = false});
      p.write = GradWrite::accumulate;
      check_backward(p);
    }
  }
}

TEST_P(CudaLayerNormDTypes, HandlesMisalignedAndPitchedRows) {
  for (const Extent& extent : kNormVariants) {
    for (const Layout& layout : kNormLayouts) {
      Problem p = problem_of_mode(GetParam(), extent, 2);
      p.layout = layout;
      check_forward(p);
      check_backward(p);
    }
  }
}

TEST_F(CudaLayerNorm, ComputesAnySubsetOfTheGradients) {
  for (const Extent& extent : {Extent{37, 136}, Extent{5, 9001}}) {
    for (unsigned bits = 0; bits<32; bits += extent.cols> 1000 ? 5 : 1) {
      Problem p = problem_of_mode({DType::bf16, DType::f32}, extent, 2);
      check_backward(p, {.dx = (bits & 1U) != 0,
                         .dx_drop = (bits & 2U) != 0,
                         .dweight = (bits & 4U) != 0,
                         .dbias = (bits & 8U) != 0,
                         .column_sum = (bits & 16U) != 0});
    }
  }
}

TEST_F(CudaLayerNorm, WorksWithoutWeightAndBias) {
  for (const Extent& extent : kNormVariants) {
    Problem p = problem_of_mode({DType::bf16, DType::f32}, extent, 1);
    p.has_affine = false;
    check_forward(p);
    check_backward(p, {.dweight = false, .dbias = false});
  }
}

TEST_F(CudaLayerNorm, StaysAccurateFarFromZero) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Extent& extent : kNormVariants) {
      Problem p = problem_of_mode({dtype, DType::f32}, extent, 0);
      p.offset = 1e4;
      check_forward(p);
      check_backward(p);
    }
  }
}

TEST_F(CudaLayerNorm, GivesTheBiasForConstantRows) {
  for (const double value : {0.0, 3.0, -1e4, 1e8}) {
    for (const std::int64_t cols : {1, 100, 768, 4096, 9001}) {
      SCOPED_TRACE(cat(value, " [3, ", cols, "]"));
      Operands on({.dtypes = {DType::f32, DType::f32}, .extent = {3, cols}});
      const std::vector<double> values(static_cast<std::size_t>(3 * cols), value);
      on.x = CudaTensor(values, {3, cols}, DType::f32);
      run_on(kCuda, on.args(0.0F));
      const std::vector<double> bias = on.bias.values();
      std::vector<double> want;
      for (int row = 0; row < 3; ++row)
        want.insert(want.end(), bias.begin(), bias.end());
      // What is left of x - mean is below 1e-13 of x; rstd is 316.
      EXPECT_TRUE(all_close(on.y.values(), want, {.absolute = 1e-6 + 1e-10 * std::abs(value)}));
    }
  }
}

/// Row 2 of x [5, cols] gets a NaN, row 3 an infinity.
std::vector<double> spoiled(std::vector<double> values, std::int64_t cols) {
  values[static_cast<std::size_t>(2 * cols + cols / 2)] = kNaN;
  values[static_cast<std::size_t>(3 * cols + cols / 3)] = std::numeric_limits<double>::infinity();
  return values;
}

void expect_spoiled_rows_only(const std::vector<double>& got, const std::vector<double>& clean,
                              std::int64_t cols) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::int64_t row = static_cast<std::int64_t>(i) / cols;
    if (row == 2 || row == 3) {
      ASSERT_FALSE(std::isfinite(got[i])) << "row " << row << " element " << i;
    } else {
      ASSERT_EQ(got[i], clean[i]) << "row " << row << " element " << i;
    }
  }
}

TEST_F(CudaLayerNorm, KeepsNanAndInfinityInTheirRow) {
  for (const std::int64_t cols : {64, 129, 768, 4096, 9001, 20000}) {
    SCOPED_TRACE(cols);
    const Problem p{.dtypes = {DType::bf16, DType::f32}, .extent = {5, cols}};
    Operands on(p);
    run_on(kCuda, on.args(0.0F));
    const std::vector<double> clean = on.y.values();
    on.x = CudaTensor(spoiled(on.x.values(), cols), {5, cols}, DType::bf16);
    run_on(kCuda, on.args(0.0F));
    expect_spoiled_rows_only(on.y.values(), clean, cols);

    BackwardOperands back(p, {});
    run_on(kCuda, back.args());
    const std::vector<double> clean_dx = back.dx.values();
    back.dy = CudaTensor(spoiled(back.dy.values(), cols), {5, cols}, DType::bf16);
    run_on(kCuda, back.args());
    expect_spoiled_rows_only(back.dx.values(), clean_dx, cols);
  }
}

TEST_F(CudaLayerNorm, GivesTheSameBitsTwentyTimes) {
  for (const Extent& extent : {Extent{533, 768}, Extent{301, 513}, Extent{33, 9001}}) {
    SCOPED_TRACE(cat("[", extent.rows, ", ", extent.cols, "]"));
    const Problem p = problem_of_mode({DType::bf16, DType::f32}, extent, 2);
    const Operands on(p);
    const BackwardOperands back(p, {});
    std::vector<std::vector<double>> first;
    for (int repeat = 0; repeat < 20; ++repeat) {
      run_on(kCuda, on.args(p.drop_p));
      run_on(kCuda, back.args());
      const std::vector<std::vector<double>> now = {on.y.values(),       on.rstd.values(),
                                                    back.dx.values(),    back.dweight.values(),
                                                    back.dbias.values(), back.column_sum.values()};
      if (repeat == 0) first = now;
      ASSERT_EQ(now == first, true) << "run " << repeat;
    }
  }
}

TEST_F(CudaLayerNorm, WritesSumOverResidualAndDxOverDyOrDsum) {
  for (const Extent& extent : kNormVariants) {
    SCOPED_TRACE(cat("[", extent.rows, ", ", extent.cols, "]"));
    const Problem p = problem_of_mode({DType::bf16, DType::f32}, extent, 2);
    Operands on(p);
    run_on(kCuda, on.args(p.drop_p));
    const std::vector<double> sum = on.sum.values(), y = on.y.values();
    LayerNorm args = on.args(p.drop_p);
    args.sum = args.residual;
    run_on(kCuda, args);
    EXPECT_EQ(on.residual.values() == sum, true);
    EXPECT_EQ(on.y.values() == y, true);

    for (const bool over_dy : {true, false}) {
      const BackwardOperands back(p, {});
      run_on(kCuda, back.args());
      const std::vector<double> dx = back.dx.values(), dweight = back.dweight.values();
      LayerNormBackward aliased = back.args();
      aliased.dx = over_dy ? aliased.dy : aliased.dsum;
      run_on(kCuda, aliased);
      EXPECT_EQ((over_dy ? back.dy : back.dsum).values() == dx, true);
      EXPECT_EQ(back.dweight.values() == dweight, true);
    }
  }
}

TEST_F(CudaLayerNorm, GivesZeroSumsForNoRows) {
  for (const GradWrite write : {GradWrite::overwrite, GradWrite::accumulate}) {
    Problem p{.dtypes = {DType::bf16, DType::f32}, .extent = {0, 768}};
    p.write = write;
    run_on(kCuda, Operands(p).args(0.0F));
    const BackwardOperands back(p, {});
    const std::vector<double> zeros_wanted(768, 0.0);
    const bool accumulates = write == GradWrite::accumulate;
    const std::vector<double> dweight = accumulates ? back.dweight.values() : zeros_wanted;
    const std::vector<double> dbias = accumulates ? back.dbias.values() : zeros_wanted;
    run_on(kCuda, back.args());
    EXPECT_EQ(back.dweight.values(), dweight);
    EXPECT_EQ(back.dbias.values(), dbias);
    EXPECT_EQ(back.column_sum.values(), zeros_wanted);
  }
}

TEST_F(CudaLayerNorm, LeavesOutputsThatAreSkippedAlone) {
  const Problem p{.dtypes = {DType::f32, DType::f32}, .extent = {37, 136}};
  const BackwardOperands back(p, {});
  LayerNormBackward args = back.args();
  args.dx_write = args.dweight_write = args.dbias_write = GradWrite::skip;
  run_on(kCuda, args);
  for (const CudaTensor* output : {&back.dx, &back.dweight, &back.dbias}) {
    for (const double value : output->values())
      ASSERT_TRUE(std::isnan(value));
  }
  EXPECT_FALSE(std::isnan(back.column_sum.values()[0]));
}

TEST_F(CudaLayerNorm, ThrowsForF64) {
  const Problem p{.dtypes = {DType::f64, DType::f64}, .extent = {2, 8}};
  const Operands on(p);
  EXPECT_THROW(run_on(kCuda, on.args(0.0F)), DTypeError);
}

}  // namespace
}  // namespace lamina::testing
