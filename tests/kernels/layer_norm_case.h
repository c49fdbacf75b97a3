// SPDX-License-Identifier: MIT
// Problems of LayerNorm and RMSNorm on CUDA, or on the CPU in f32: random operands in the dtypes
// and layouts of a problem, and the comparison of what a kernel made of them with the CPU kernel in
// f64.
#pragma once

#include "core/kernels/layer_norm.h"
#include "tests/kernels/norm_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <vector>

namespace lamina::testing::layer_norm {

using kernels::LayerNorm;
using kernels::LayerNormBackward;
using kernels::Norm;

inline constexpr Norm kNorms[] = {Norm::layer, Norm::rms};

struct Problem {
  NormDTypes dtypes;
  Extent extent;
  bool has_residual = false;
  float drop_p = 0.0F;
  Layouts layouts{};
  double offset = 0.0;  // of x
  bool has_affine = true;
  GradWrite write = GradWrite::overwrite;
  double eps = 1e-5;
  double error = 1e-6;       // of rstd, and of y in f32, relative to numbers of order one
  double mean_error = 1e-6;  // relative to 1 + |offset|
  Device device = kCuda;
  Norm norm = Norm::layer;

  Shape shape() const { return {extent.rows, extent.cols}; }

  /// Whether there are a mean, a bias and a dbias.
  bool is_centred() const { return norm == Norm::layer; }

  /// Of operand number i.
  Layout layout(std::uint64_t i) const {
    Layout at = layouts(i);
    at.device = device;
    return at;
  }

  Layout flat_layout(std::uint64_t i) const { return {layouts(i).shift, 0, device}; }

  /// Dtype of the x of the forward pass.
  DType input() const { return has_residual ? dtypes.rows : dtypes.stream; }

  /// Dtype of mean, rstd and column_sum.
  DType moments() const { return accumulation_dtype(dtypes.stream); }
};

inline std::ostream& operator<<(std::ostream& out, const Problem& p) {
  return out << (p.is_centred() ? "" : "RMSNorm ") << p.dtypes << " [" << p.extent.rows << ", "
             << p.extent.cols << "] residual " << p.has_residual << " drop " << p.drop_p
             << " shift " << p.layouts.common.shift << " pad " << p.layouts.common.pad
             << " layout seed " << p.layouts.seed << " offset " << p.offset << " affine "
             << p.has_affine << " write " << static_cast<int>(p.write);
}

/// Plain, with a residual, and with residual and dropout.
inline Problem problem_of_mode(const NormDTypes& dtypes, const Extent& extent, std::size_t mode,
                               Norm norm = Norm::layer) {
  return {.dtypes = dtypes,
          .extent = extent,
          .has_residual = mode % 3 > 0,
          .drop_p = mode % 3 == 2 ? 0.2F : 0.0F,
          .norm = norm};
}

/// What f32 sums on the CPU may add to the errors per column: a sixteenth of the row is added up
/// one after the other. The most that was seen is 4.1e-6 for 20000 columns, 4.8e-6 of a mean for
/// 9001.
inline constexpr double kCpuErrorPerColumn = 1e-9;

/// The same problem on that device.
inline Problem problem_on(Device device, Problem p) {
  p.device = device;
  if (device == kCpu && p.dtypes.stream == DType::f32) {
    const double error = kCpuErrorPerColumn * static_cast<double>(p.extent.cols);
    p.error += error;
    p.mean_error += error;
  }
  return p;
}

struct NormOperands {
  Problem problem;
  CudaTensor x, residual, weight, bias, sum, y, mean, rstd;
  PhiloxKey key{};

  explicit NormOperands(const Problem& p) : problem(p) {
    Generator generator(static_cast<std::uint64_t>(p.extent.rows * 1000003 + p.extent.cols));
    const auto [row_count, cols] = p.extent;
    const DType dtype = p.dtypes.rows, stream = p.dtypes.stream;
    std::uint64_t operand = 0;
    const auto layout = [&] { return p.layout(operand++); };
    const auto flat_layout = [&] { return p.flat_layout(operand++); };
    x = CudaTensor::normal(p.shape(), p.input(), generator, 1.0, p.offset, layout());
    if (p.has_residual) {
      residual = CudaTensor::normal(p.shape(), stream, generator, 1.5, 0.5, layout());
      sum = CudaTensor::poisoned(p.shape(), stream, layout());
    }
    if (p.has_affine) {
      weight = CudaTensor::normal({cols}, p.dtypes.parameters, generator, 0.3, 1.0, flat_layout());
      if (p.is_centred()) {
        bias = CudaTensor::normal({cols}, p.dtypes.parameters, generator, 0.5, 0.0, flat_layout());
      }
    }
    y = CudaTensor::poisoned(p.shape(), dtype, layout());
    if (p.is_centred()) mean = CudaTensor::poisoned({row_count}, p.moments(), flat_layout());
    rstd = CudaTensor::poisoned({row_count}, p.moments(), flat_layout());
    key = generator.next();
  }

  /// Replaces x.
  void set_x(const std::vector<double>& values) {
    x = CudaTensor(values, problem.shape(), problem.input(), problem.layout(0));
  }

  LayerNorm args() const {
    return {.x = rows(x.tensor()),
            .residual = rows(residual.tensor()),
            .weight = flat(weight.tensor()),
            .bias = flat(bias.tensor()),
            .sum = rows(sum.tensor()),
            .y = rows(y.tensor()),
            .mean = flat(mean.tensor()),
            .rstd = flat(rstd.tensor()),
            .eps = problem.eps,
            .drop_p = problem.drop_p,
            .key = key,
            .norm = problem.norm};
  }
};

/// The f64 results of normalising `x` (with `residual` and dropout, when given).
struct Reference {
  Tensor sum, y, mean, rstd;

  Reference(const NormOperands& on, const Tensor& x, const Tensor& residual, float drop_p)
      : sum(residual ? empty_like(x) : Tensor()),
        y(empty_like(x)),
        mean(empty({x.dim(0)}, DType::f64)),
        rstd(empty_like(mean)) {
    if (!on.problem.is_centred()) mean = Tensor();
    const Tensor weight = on.weight.reference(), bias = on.bias.reference();
    run(LayerNorm{.x = rows(x),
                  .residual = rows(residual),
                  .weight = flat(weight),
                  .bias = flat(bias),
                  .sum = rows(sum),
                  .y = rows(y),
                  .mean = flat(mean),
                  .rstd = flat(rstd),
                  .eps = on.problem.eps,
                  .drop_p = drop_p,
                  .key = on.key,
                  .norm = on.problem.norm},
        CpuStream{});
  }
};

/// The sum against residual + dropout(x).
inline void expect_sum(const NormOperands& on) {
  const Problem& p = on.problem;
  const Reference want(on, on.x.reference(), on.residual.reference(), p.drop_p);
  EXPECT_TRUE(all_close(on.sum.values(), want.sum.to_vector<double>(),
                        {.dtype = p.dtypes.stream, .absolute = 2e-6}))
      << "sum";
  EXPECT_TRUE(on.sum.guards_intact()) << "sum";
}

/// The f64 results for what was normalised: the rounded sum, or x. Of `on` after a run.
inline Reference reference_of(const NormOperands& on) {
  return {on, on.problem.has_residual ? on.sum.reference() : on.x.reference(), Tensor(), 0.0F};
}

inline void expect_normalised(const NormOperands& on, const Reference& want) {
  const Problem& p = on.problem;
  const double magnitude = 1.0 + std::abs(p.offset);
  EXPECT_TRUE(
      all_close(on.y.values(), want.y.to_vector<double>(), norm_tolerance(p.dtypes.rows, p.error)))
      << "y";
  if (on.mean) {
    EXPECT_TRUE(all_close(on.mean.values(), want.mean.to_vector<double>(),
                          {.absolute = p.mean_error * magnitude, .relative = 2e-7}))
        << "mean";
  }
  EXPECT_TRUE(all_close(on.rstd.values(), want.rstd.to_vector<double>(), {.relative = p.error}))
      << "rstd";
  for (const CudaTensor* output : {&on.y, &on.mean, &on.rstd}) {
    if (*output) {
      EXPECT_TRUE(output->guards_intact());
    }
  }
}

inline void check_forward(const NormOperands& on) {
  SCOPED_TRACE(cat(on.problem));
  run_on(on.problem.device, on.args());
  if (on.problem.has_residual) expect_sum(on);
  expect_normalised(on, reference_of(on));
}

inline void check_forward(const Problem& p) {
  check_forward(NormOperands(p));
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

  explicit BackwardOperands(const Problem& p, const Wanted& wanted = {}) : problem(p) {
    Generator generator(static_cast<std::uint64_t>(p.extent.rows * 1000003 + p.extent.cols + 1));
    const Shape shape = p.shape(), columns{p.extent.cols};
    const DType dtype = p.dtypes.rows, stream = p.dtypes.stream;
    std::uint64_t operand = 100;
    const auto layout = [&] { return p.layout(operand++); };
    const auto flat_layout = [&] { return p.flat_layout(operand++); };
    x = CudaTensor::normal(shape, stream, generator, 1.0, p.offset, layout());
    dy = CudaTensor::normal(shape, dtype, generator, 1.0, 0.1, layout());
    if (p.has_residual) dsum = CudaTensor::normal(shape, stream, generator, 1.0, 0.0, layout());
    if (p.has_affine) {
      weight = CudaTensor::normal(columns, p.dtypes.parameters, generator, 0.3, 1.0, flat_layout());
    }
    set_moments();
    const auto gradient = [&](const Shape& like, DType of, const Layout& at) {
      return gradient_for(p.write, like, of, generator, at);
    };
    if (wanted.dx) dx = gradient(shape, stream, layout());
    if (wanted.dx_drop) dx_drop = CudaTensor::poisoned(shape, dtype, layout());
    // dweight comes in the dtype of the weight, dbias in f32.
    if (wanted.dweight) dweight = gradient(columns, p.dtypes.parameters, flat_layout());
    if (wanted.dbias && p.is_centred()) dbias = gradient(columns, DType::f32, flat_layout());
    if (wanted.column_sum) column_sum = CudaTensor::poisoned(columns, p.moments(), flat_layout());
    key = generator.next();
  }

  /// Replaces x, and the moments by its own.
  void set_x(const std::vector<double>& values) {
    x = CudaTensor(values, problem.shape(), problem.dtypes.stream, problem.layout(100));
    set_moments();
  }

  void set_dy(const std::vector<double>& values) {
    dy = CudaTensor(values, problem.shape(), problem.dtypes.rows, problem.layout(101));
  }

  /// The moments as the forward pass saves them: rounded to their dtype.
  void set_moments() {
    const std::int64_t cols = problem.extent.cols;
    const std::vector<double> values = x.values();
    std::vector<double> means, rstds;
    for (std::size_t first = 0; first < values.size(); first += static_cast<std::size_t>(cols)) {
      double sum = 0.0, squares = 0.0;
      for (std::size_t c = 0; c < static_cast<std::size_t>(cols); ++c)
        sum += values[first + c];
      const double row_mean = problem.is_centred() ? sum / static_cast<double>(cols) : 0.0;
      for (std::size_t c = 0; c < static_cast<std::size_t>(cols); ++c) {
        squares += (values[first + c] - row_mean) * (values[first + c] - row_mean);
      }
      means.push_back(row_mean);
      rstds.push_back(1.0 / std::sqrt(squares / static_cast<double>(cols) + problem.eps));
    }
    const Layout layout = problem.flat_layout(99);
    if (problem.is_centred()) {
      mean = CudaTensor(means, {problem.extent.rows}, problem.moments(), layout);
    }
    rstd = CudaTensor(rstds, {problem.extent.rows}, problem.moments(), layout);
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
            .workspace = {},
            .norm = problem.norm};
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
    args.dbias = on.problem.is_centred() ? flat(new_dbias) : Flat{};
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
      const double row_mean = mean ? mean.data<double>()[r] : 0.0;
      const double row_rstd = rstd.data<double>()[r];
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
        constexpr double kLeastFloat = 1.5e-45;  // a product of dy and x - mean may be that small
        dweight_bound[c] += kNormArithmetic * std::abs(dys[i]) * h + kLeastFloat * row_rstd;
        dbias_bound[c] += kNormArithmetic * std::abs(dys[i]);
        column_sum_bound[c] += kNormArithmetic * keep * terms;
      }
    }
  }
};

/// Within the bound plus one rounding to the dtype of the output; an output that is not there
/// passes.
inline void expect_gradient(const char* name, const CudaTensor& got,
                            const std::vector<double>& want, std::vector<double> bound) {
  if (!got) return;
  for (std::size_t i = 0; i < bound.size(); ++i) {
    bound[i] += ulp_of(got.tensor().dtype(), want[i]);
  }
  EXPECT_TRUE(all_within(got.values(), want, bound)) << name;
  EXPECT_TRUE(got.guards_intact()) << name;
}

/// In f32, sums over many terms are also held to a relative error of their norm, unless they are so
/// small that their terms have lost digits as denormals.
inline void expect_norm(const char* name, const CudaTensor& got, const std::vector<double>& want) {
  if (!got || got.tensor().dtype() != DType::f32) return;
  const auto is_small = [](double value) { return std::abs(value) < 1e-30; };
  if (std::all_of(want.begin(), want.end(), is_small)) return;
  EXPECT_LE(relative_l2(got.values(), want), 1e-6) << name;
}

inline void expect_gradients(const BackwardOperands& on, const BackwardReference& want) {
  expect_gradient("dx", on.dx, want.dx, want.dx_bound);
  expect_gradient("dx_drop", on.dx_drop, want.dx_drop, want.dx_drop_bound);
  expect_gradient("dweight", on.dweight, want.dweight, want.dweight_bound);
  expect_gradient("dbias", on.dbias, want.dbias, want.dbias_bound);
  expect_gradient("column_sum", on.column_sum, want.column_sum, want.column_sum_bound);
  // In short rows a norm may be near zero by cancellation.
  if (on.problem.extent.rows == 0 || on.problem.extent.cols < 64) return;
  expect_norm("dx", on.dx, want.dx);
  expect_norm("dweight", on.dweight, want.dweight);
  expect_norm("dbias", on.dbias, want.dbias);
}

inline void check_backward(const BackwardOperands& on) {
  SCOPED_TRACE(cat(on.problem));
  const BackwardReference want(on);
  run_on(on.problem.device, on.args());
  expect_gradients(on, want);
}

inline void check_backward(const Problem& p, const Wanted& wanted = {}) {
  SCOPED_TRACE(
      cat("outputs ", wanted.dx, wanted.dx_drop, wanted.dweight, wanted.dbias, wanted.column_sum));
  check_backward(BackwardOperands(p, wanted));
}

}  // namespace lamina::testing::layer_norm
