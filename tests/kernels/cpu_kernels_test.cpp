// SPDX-License-Identifier: MIT
// The CPU kernels against plain loops in double: element-wise work, reductions and norms. Matrix
// products, attention, embedding, losses and the optimizer are in cpu_blocks_test.cpp.
#include "core/dtype.h"
#include "core/kernels/copy.h"
#include "core/kernels/dropout.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/fill.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/reduce.h"
#include "core/kernels/softmax.h"
#include "tests/kernels/cpu_matrix.h"
#include "tests/support/keep_factor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace lamina::kernels {
namespace {

using testing::Buffer;
using testing::expect_close;
using testing::expect_near;
using testing::expect_same_for_any_threads;
using testing::kStream;
using testing::Matrix;
using testing::Workspace;

template <class T>
class CpuKernels : public ::testing::Test {};

using Floats = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CpuKernels, Floats);

struct Extent {
  std::int64_t rows, cols;
};

/// One row, one column, odd sizes, sizes beside the vector width, and enough for several chunks.
constexpr Extent kExtents[] = {{1, 1},   {1, 1000},  {300, 1}, {7, 13},
                               {33, 17}, {130, 515}, {600, 96}};

TYPED_TEST(CpuKernels, FillsEveryElementAndNoPadding) {
  using T = TypeParam;
  for (const auto [rows, cols] : kExtents) {
    Matrix<T> y(rows, cols, 1, 3);
    run(Fill{.y = y.view(), .value = 2.5}, kStream);
    expect_close(y, [](auto, auto) { return 2.5; });
    Buffer<T> scalar{T{3}};
    run(
        FillFromScalar{
            .scalar = scalar.view(), .y = y.view(), .factor = 0.5, .write = GradWrite::accumulate},
        kStream);
    expect_close(y, [](auto, auto) { return 4.0; });
  }
}

TEST(CpuFill, RoundsToTheDType) {
  Matrix<std::int64_t> whole(3, 4, 1);
  run(Fill{.y = whole.view(), .value = 7.9}, kStream);
  expect_close(whole, [](auto, auto) { return 7.0; });
  std::vector<BFloat16> bf16(5);
  const Rows y{.data = bf16.data(), .rows = 1, .cols = 5, .stride = 5, .dtype = DType::bf16};
  run(Fill{.y = y, .value = 1.0 / 3.0}, kStream);
  EXPECT_EQ(bf16[4].bits, BFloat16(1.0F / 3.0F).bits);
}

TEST(CpuCopy, PermutesAndConverts) {
  const Shape shape{5, 3, 70, 11};
  std::vector<float> from(static_cast<std::size_t>(shape.elements()));
  std::iota(from.begin(), from.end(), -100.0F);
  std::vector<double> to(from.size(), 1.0);
  // The target is [70, 5, 11, 3]: its strides in the order of `shape`.
  Copy copy{.from = from.data(),
            .to = to.data(),
            .shape = shape,
            .from_strides = {3 * 70 * 11, 70 * 11, 11, 1},
            .to_strides = {33, 1, 5 * 33, 3},
            .from_dtype = DType::f32,
            .to_dtype = DType::f64};
  for (const GradWrite write : {GradWrite::overwrite, GradWrite::accumulate}) {
    copy.write = write;
    run(copy, kStream);
    const double times = write == GradWrite::overwrite ? 1.0 : 2.0;
    std::size_t at = 0;
    for (int a = 0; a < 5; ++a) {
      for (int b = 0; b < 3; ++b) {
        for (int c = 0; c < 70; ++c) {
          for (int d = 0; d < 11; ++d, ++at) {
            const auto target = static_cast<std::size_t>(a * 33 + b + c * 165 + d * 3);
            ASSERT_EQ(to[target], times * static_cast<double>(from[at])) << a << b << c << d;
          }
        }
      }
    }
  }
}

TEST(CpuCopy, KeepsLargeIntegersAndRefusesToAddThem) {
  const std::vector<std::int64_t> from = {(std::int64_t{1} << 62U) + 1, -5};
  std::vector<std::int64_t> to(2);
  Copy copy{.from = from.data(),
            .to = to.data(),
            .shape = {2},
            .from_strides = {1},
            .to_strides = {1},
            .from_dtype = DType::i64,
            .to_dtype = DType::i64};
  run(copy, kStream);
  EXPECT_EQ(to, from);
  copy.write = GradWrite::accumulate;
  EXPECT_THROW(run(copy, kStream), DTypeError);
}

TYPED_TEST(CpuKernels, AddsAndMultipliesWithRepeatedRows) {
  using T = TypeParam;
  for (const auto [rows, cols] : kExtents) {
    for (const std::int64_t repeat : {std::int64_t{1}, rows}) {
      const Matrix<T> a(rows, cols, 1, 2), b(rows / repeat, cols, 2);
      Matrix<T> y(rows, cols, 3, 5);
      const Matrix<T> old = y;
      const auto other = [&](auto r, auto c) { return b(r % b.rows, c); };
      run(Add{.a = a.view(), .b = b.view(), .y = y.view()}, kStream);
      expect_close(y, [&](auto r, auto c) { return a(r, c) + other(r, c); });
      run(Mul{.a = a.view(), .b = b.view(), .y = y.view(), .write = GradWrite::accumulate},
          kStream);
      expect_close(y, [&](auto r, auto c) {
        return a(r, c) + other(r, c) + static_cast<double>(a(r, c)) * other(r, c);
      });
      Matrix<T> in_place = a;
      run(Add{.a = in_place.view(), .b = b.view(), .y = in_place.view()}, kStream);
      expect_close(in_place, [&](auto r, auto c) { return a(r, c) + other(r, c); });
    }
  }
}

TYPED_TEST(CpuKernels, ScalesInPlaceAndAcrossDTypes) {
  using T = TypeParam;
  const Matrix<T> x(9, 33, 1, 1);
  Matrix<T> y = x;
  run(Scale{.x = y.view(), .y = y.view(), .factor = -3.0}, kStream);
  expect_close(y, [&](auto r, auto c) { return -3.0 * x(r, c); });
  Matrix<double> wide(9, 33, 2);
  const Matrix<double> old = wide;
  run(Scale{.x = x.view(), .y = wide.view(), .factor = 2.0, .write = GradWrite::accumulate},
      kStream);
  expect_close(wide, [&](auto r, auto c) { return old(r, c) + 2.0 * x(r, c); });
}

double activation(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::relu:
      return std::max(0.0, x);
    case ActivationKind::gelu_tanh:
      return 0.5 * x *
             (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979324) * (x + 0.044715 * x * x * x)));
    case ActivationKind::gelu_erf:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case ActivationKind::silu:
      return x / (1.0 + std::exp(-x));
  }
  return 0.0;
}

TYPED_TEST(CpuKernels, ActivatesAndDifferentiates) {
  using T = TypeParam;
  for (const auto kind : {ActivationKind::relu, ActivationKind::gelu_tanh, ActivationKind::gelu_erf,
                          ActivationKind::silu}) {
    for (const auto [rows, cols] : kExtents) {
      Matrix<T> x(rows, cols, 1, 1);
      for (T& value : x.data)
        value *= T{5};
      Matrix<T> y(rows, cols, 2), dx(rows, cols, 3, 2);
      const Matrix<T> dy(rows, cols, 4), old = dx;
      run(Activation{.x = x.view(), .y = y.view(), .kind = kind}, kStream);
      expect_close(y, [&](auto r, auto c) { return activation(kind, x(r, c)); });
      run(ActivationBackward{.x = x.view(),
                             .dy = dy.view(),
                             .dx = dx.view(),
                             .kind = kind,
                             .write = GradWrite::accumulate},
          kStream);
      expect_close(
          dx,
          [&](auto r, auto c) {
            const double at = x(r, c), h = 1e-5;
            const double slope = (activation(kind, at + h) - activation(kind, at - h)) / (2 * h);
            return old(r, c) + slope * dy(r, c);
          },
          1e-9);
    }
  }
}

TEST(CpuActivation, SurvivesLargeInputs) {
  std::vector<float> x = {-1e4F, -100.0F, -30.0F, 30.0F, 100.0F, 1e4F}, y(x.size());
  const auto rows = [](std::vector<float>& v) {
    return Rows{.data = v.data(), .rows = 1, .cols = 6, .stride = 6};
  };
  for (const auto kind :
       {ActivationKind::gelu_tanh, ActivationKind::gelu_erf, ActivationKind::silu}) {
    run(Activation{.x = rows(x), .y = rows(y), .kind = kind}, kStream);
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(y[i], x[i] < 0 ? 0.0F : x[i], 1e-6F) << x[i];
    }
  }
}

double keep_factor(PhiloxKey key, float p, std::int64_t element) {
  return testing::keep_factor(key, p, static_cast<std::uint64_t>(element));
}

TYPED_TEST(CpuKernels, DropsTheElementsOfTheRandomRegion) {
  using T = TypeParam;
  const PhiloxKey key{.seed = 77, .offset = 5};
  for (const auto [rows, cols] : kExtents) {
    for (const std::int64_t padding : {0, 3}) {
      const Matrix<T> x(rows, cols, 1, padding);
      Matrix<T> y(rows, cols, 2, padding);
      run(Dropout{.x = x.view(), .y = y.view(), .p = 0.3F, .key = key}, kStream);
      expect_close(
          y, [&, n = cols](auto r, auto c) { return keep_factor(key, 0.3F, r * n + c) * x(r, c); });
    }
  }
}

TYPED_TEST(CpuKernels, SoftmaxAndItsGradientMatchPlainLoops) {
  using T = TypeParam;
  for (const auto [rows, cols] : kExtents) {
    for (const std::int64_t period : {std::int64_t{0}, std::int64_t{5}}) {
      const Matrix<T> x(rows, cols, 1, 3), dy(rows, cols, 2);
      Matrix<T> y(rows, cols, 3, 1);
      run(Softmax{.x = x.view(), .y = y.view(), .period = period}, kStream);
      Matrix<double> want(rows, cols, 4);
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t used = period > 0 ? std::min(cols, r % period + 1) : cols;
        double sum = 0.0;
        for (std::int64_t c = 0; c < used; ++c)
          sum += std::exp(double{x(r, c)});
        for (std::int64_t c = 0; c < cols; ++c) {
          want(r, c) = c < used ? std::exp(double{x(r, c)}) / sum : 0.0;
        }
      }
      expect_close(y, [&](auto r, auto c) { return want(r, c); });
      Matrix<T> dx = dy;  // in place
      run(
          SoftmaxBackward{
              .y = y.view(), .dy = dx.view(), .dx = dx.view(), .write = GradWrite::overwrite},
          kStream);
      expect_close(dx, [&, n = cols](auto r, auto c) {
        double dot = 0.0;
        for (std::int64_t j = 0; j < n; ++j)
          dot += want(r, j) * dy(r, j);
        return want(r, c) * (dy(r, c) - dot);
      });
    }
  }
}

TYPED_TEST(CpuKernels, SumsAllElementsAndColumns) {
  using T = TypeParam;
  for (const auto [rows, cols] : kExtents) {
    const Matrix<T> x(rows, cols, 1, 2), factor(rows, cols, 2);
    double total = 0.0;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < cols; ++c)
        total += x(r, c);
    }
    Buffer<T> y{T{0}};
    run(Workspace<Sum>({.x = x.view(), .y = y.view(), .factor = 0.25}).args, kStream);
    EXPECT_NEAR(y[0], 0.25 * total, 1e-5 * std::sqrt(static_cast<double>(rows * cols)));
    for (const std::int64_t groups : {std::int64_t{1}, rows}) {
      Matrix<T> sums(groups, cols, 3);
      const Matrix<T> old = sums;
      run(Workspace<ColumnSum>({.x = x.view(),
                                .factor = factor.view(),
                                .y = sums.view(),
                                .write = GradWrite::accumulate})
              .args,
          kStream);
      expect_close(sums, [&, n = rows](auto r, auto c) {
        double sum = old(r, c);
        for (std::int64_t i = r; i < n; i += groups)
          sum += static_cast<double>(x(i, c)) * factor(i, c);
        return sum;
      });
    }
  }
}

TYPED_TEST(CpuKernels, LayerNormNormalisesTheResidualSum) {
  using T = TypeParam;
  const PhiloxKey key{.seed = 3, .offset = 9};
  for (const auto [rows, cols] : kExtents) {
    const Matrix<T> x(rows, cols, 1, 1), residual(rows, cols, 2, 2);
    const Buffer<T> weight(cols, 3), bias(cols, 4);
    Matrix<T> sum = residual, y(rows, cols, 6);
    Buffer<T> mean(rows, 7), rstd(rows, 8);
    run(LayerNorm{.x = x.view(),
                  .residual = sum.view(),
                  .weight = weight.view(),
                  .bias = bias.view(),
                  .sum = sum.view(),
                  .y = y.view(),
                  .mean = mean.view(),
                  .rstd = rstd.view(),
                  .eps = 1e-2,
                  .drop_p = 0.25F,
                  .key = key},
        kStream);
    expect_close(sum, [&, n = cols](auto r, auto c) {
      return residual(r, c) + keep_factor(key, 0.25F, r * n + c) * x(r, c);
    });
    const double n = static_cast<double>(cols);
    expect_close(y, [&, width = cols](auto r, auto c) {
      double center = 0.0, variance = 0.0;
      for (std::int64_t j = 0; j < width; ++j)
        center += sum(r, j) / n;
      for (std::int64_t j = 0; j < width; ++j)
        variance += std::pow(sum(r, j) - center, 2) / n;
      return (sum(r, c) - center) / std::sqrt(variance + 1e-2) * weight[c] + bias[c];
    });
  }
}

TEST(CpuLayerNorm, KeepsDigitsAtALargeOffset) {
  constexpr std::int64_t kCols = 768;
  Matrix<float> x(4, kCols, 1);
  for (float& value : x.data)
    value += 1e4F;
  Matrix<float> y(4, kCols, 2);
  Buffer<float> mean(4, 3), rstd(4, 4);
  run(LayerNorm{.x = x.view(), .y = y.view(), .mean = mean.view(), .rstd = rstd.view(), .eps = 0.0},
      kStream);
  for (std::int64_t r = 0; r < 4; ++r) {
    double center = 0.0, variance = 0.0;
    for (std::int64_t c = 0; c < kCols; ++c)
      center += double{x(r, c)} / kCols;
    for (std::int64_t c = 0; c < kCols; ++c)
      variance += std::pow(x(r, c) - center, 2) / kCols;
    for (std::int64_t c = 0; c < kCols; ++c) {
      ASSERT_NEAR(y(r, c), (x(r, c) - center) / std::sqrt(variance), 2e-6);
    }
  }
}

TYPED_TEST(CpuKernels, LayerNormBackwardMatchesTheFormula) {
  using T = TypeParam;
  const PhiloxKey key{.seed = 3, .offset = 9};
  for (const auto [rows, cols] : kExtents) {
    const Matrix<T> x(rows, cols, 1, 1), dy(rows, cols, 2), dsum(rows, cols, 3, 2);
    const Buffer<T> weight(cols, 4);
    const Buffer<T> mean(rows, 5), rstd(rows, 6);
    Matrix<T> dx(rows, cols, 7), dx_drop(rows, cols, 8, 1);
    Buffer<T> dweight(cols, 9), dbias(cols, 10), column_sum(cols, 11);
    const Matrix<T> old_dx = dx;
    const Buffer<T> old_dweight = dweight;
    run(Workspace<LayerNormBackward>({.x = x.view(),
                                      .dy = dy.view(),
                                      .dsum = dsum.view(),
                                      .weight = weight.view(),
                                      .mean = mean.view(),
                                      .rstd = rstd.view(),
                                      .dx = dx.view(),
                                      .dx_drop = dx_drop.view(),
                                      .dweight = dweight.view(),
                                      .dbias = dbias.view(),
                                      .column_sum = column_sum.view(),
                                      .dx_write = GradWrite::accumulate,
                                      .dweight_write = GradWrite::accumulate,
                                      .drop_p = 0.25F,
                                      .key = key})
            .args,
        kStream);
    Matrix<double> want(rows, cols, 12);
    std::vector<double> want_weight(static_cast<std::size_t>(cols)), want_bias = want_weight,
                                                                     want_column = want_weight;
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto h = [&](std::int64_t c) { return (double{x(r, c)} - mean[r]) * rstd[r]; };
      double g = 0.0, gh = 0.0;
      for (std::int64_t c = 0; c < cols; ++c) {
        g += double{dy(r, c)} * weight[c] / static_cast<double>(cols);
        gh += double{dy(r, c)} * weight[c] * h(c) / static_cast<double>(cols);
      }
      for (std::int64_t c = 0; c < cols; ++c) {
        want(r, c) = rstd[r] * (double{dy(r, c)} * weight[c] - g - h(c) * gh) + dsum(r, c);
        const auto at = static_cast<std::size_t>(c);
        want_weight[at] += dy(r, c) * h(c);
        want_bias[at] += dy(r, c);
        want_column[at] += keep_factor(key, 0.25F, r * cols + c) * want(r, c);
      }
    }
    expect_close(dx, [&](auto r, auto c) { return old_dx(r, c) + want(r, c); });
    expect_close(dx_drop, [&, n = cols](auto r, auto c) {
      return keep_factor(key, 0.25F, r * n + c) * want(r, c);
    });
    expect_close(dweight,
                 [&](auto c) { return old_dweight[c] + want_weight[static_cast<std::size_t>(c)]; });
    expect_close(dbias, [&](auto c) { return want_bias[static_cast<std::size_t>(c)]; });
    expect_close(column_sum, [&](auto c) { return want_column[static_cast<std::size_t>(c)]; });
  }
}

/// Results of the LayerNorm kernels for rows of type T beside an f64 stream.
template <class T>
struct WideStream {
  Matrix<double> sum, dx;
  Matrix<T> y, dx_drop;
  Buffer<double> mean, rstd, column_sum;
  Buffer<float> dweight, dbias;

  WideStream(const Matrix<T>& x, const Matrix<T>& dy, float drop_p)
      : sum(x.rows, x.cols, 1, 2),
        dx(x.rows, x.cols, 2),
        y(x.rows, x.cols, 3, 1),
        dx_drop(x.rows, x.cols, 4),
        mean(x.rows, 5),
        rstd(x.rows, 6),
        column_sum(x.cols, 7),
        dweight(x.cols, 8),
        dbias(x.cols, 9) {
    const PhiloxKey key{.seed = 3, .offset = 9};
    const Matrix<double> residual(x.rows, x.cols, 10), dsum(x.rows, x.cols, 11);
    const Buffer<float> weight(x.cols, 12), bias(x.cols, 13);
    run(LayerNorm{.x = x.view(),
                  .residual = residual.view(),
                  .weight = weight.view(),
                  .bias = bias.view(),
                  .sum = sum.view(),
                  .y = y.view(),
                  .mean = mean.view(),
                  .rstd = rstd.view(),
                  .eps = 1e-2,
                  .drop_p = drop_p,
                  .key = key},
        kStream);
    run(Workspace<LayerNormBackward>({.x = sum.view(),
                                      .dy = dy.view(),
                                      .dsum = dsum.view(),
                                      .weight = weight.view(),
                                      .mean = mean.view(),
                                      .rstd = rstd.view(),
                                      .dx = dx.view(),
                                      .dx_drop = dx_drop.view(),
                                      .dweight = dweight.view(),
                                      .dbias = dbias.view(),
                                      .column_sum = column_sum.view(),
                                      .drop_p = drop_p,
                                      .key = key})
            .args,
        kStream);
  }
};

template <class To, class From>
Matrix<To> converted(const Matrix<From>& from) {
  Matrix<To> to(from.rows, from.cols, 0);
  for (std::int64_t r = 0; r < from.rows; ++r) {
    for (std::int64_t c = 0; c < from.cols; ++c)
      to(r, c) = static_cast<To>(from(r, c));
  }
  return to;
}

TEST(CpuLayerNorm, ComputesInTheDTypeOfTheStreamAndRoundsOnce) {
  constexpr double kWide = 1e-10, kRounded = 2e-7;  // f64 arithmetic; one rounding to f32
  for (const auto [rows, cols] : kExtents) {
    for (const float drop_p : {0.0F, 0.25F}) {
      const Matrix<float> x(rows, cols, 1, 1), dy(rows, cols, 2, 3);
      const WideStream<float> got(x, dy, drop_p);
      const WideStream<double> want(converted<double>(x), converted<double>(dy), drop_p);
      expect_near("sum", got.sum.data, want.sum.data, kWide);
      expect_near("dx", got.dx.data, want.dx.data, kWide);
      expect_near("y", got.y.data, want.y.data, kRounded);
      expect_near("dx_drop", got.dx_drop.data, want.dx_drop.data, kRounded);
      expect_near("mean", got.mean.data, want.mean.data, kWide);
      expect_near("rstd", got.rstd.data, want.rstd.data, kWide);
      expect_near("dweight", got.dweight.data, want.dweight.data, kRounded);
      expect_near("dbias", got.dbias.data, want.dbias.data, kRounded);
      expect_near("column_sum", got.column_sum.data, want.column_sum.data, kWide);
    }
  }
}

TEST(CpuLayerNorm, NormalisesAWideStreamWithoutKeepingMoments) {
  const Matrix<double> x(33, 17, 1, 2);
  Matrix<float> y(33, 17, 2, 1);
  Matrix<double> want(33, 17, 3);
  Buffer<double> mean(33, 4), rstd(33, 5);
  run(
      LayerNorm{
          .x = x.view(), .y = want.view(), .mean = mean.view(), .rstd = rstd.view(), .eps = 1e-2},
      kStream);
  run(LayerNorm{.x = x.view(), .y = y.view(), .eps = 1e-2}, kStream);
  EXPECT_EQ(converted<float>(y).data, converted<float>(want).data);
  Matrix<double> rms(33, 17, 6), rms_kept(33, 17, 7);
  run(LayerNorm{.x = x.view(), .y = rms.view(), .eps = 1e-2, .norm = Norm::rms}, kStream);
  run(
      LayerNorm{
          .x = x.view(), .y = rms_kept.view(), .rstd = rstd.view(), .eps = 1e-2, .norm = Norm::rms},
      kStream);
  EXPECT_EQ(rms.data, rms_kept.data);
}

TEST(CpuLayerNorm, RefusesAStreamThatIsNarrower) {
  const Matrix<float> x(3, 5, 1);
  const Matrix<double> y(3, 5, 2);
  EXPECT_THROW(run(LayerNorm{.x = x.view(), .y = y.view(), .eps = 1e-2}, kStream), DTypeError);
}

TYPED_TEST(CpuKernels, RmsNormAndItsGradientMatchTheFormula) {
  using T = TypeParam;
  for (const auto [rows, cols] : kExtents) {
    const Matrix<T> x(rows, cols, 1, 1), dy(rows, cols, 2);
    const Buffer<T> weight(cols, 3);
    Matrix<T> y(rows, cols, 4, 2), dx = dy;
    Buffer<T> rstd(rows, 5), dweight(cols, 6);
    run(LayerNorm{.x = x.view(),
                  .weight = weight.view(),
                  .y = y.view(),
                  .rstd = rstd.view(),
                  .eps = 1e-2,
                  .norm = Norm::rms},
        kStream);
    run(Workspace<LayerNormBackward>({.x = x.view(),
                                      .dy = dx.view(),
                                      .weight = weight.view(),
                                      .rstd = rstd.view(),
                                      .dx = dx.view(),
                                      .dweight = dweight.view(),
                                      .norm = Norm::rms})
            .args,
        kStream);
    const double n = static_cast<double>(cols);
    Matrix<double> want(rows, cols, 7), want_dx(rows, cols, 8);
    std::vector<double> want_weight(static_cast<std::size_t>(cols));
    for (std::int64_t r = 0; r < rows; ++r) {
      double squares = 0.0, dot = 0.0;
      for (std::int64_t c = 0; c < cols; ++c)
        squares += double{x(r, c)} * x(r, c) / n;
      const double scale = 1.0 / std::sqrt(squares + 1e-2);
      for (std::int64_t c = 0; c < cols; ++c)
        dot += double{dy(r, c)} * weight[c] * x(r, c) * scale / n;
      for (std::int64_t c = 0; c < cols; ++c) {
        const double h = x(r, c) * scale;
        want(r, c) = h * weight[c];
        want_dx(r, c) = scale * (double{dy(r, c)} * weight[c] - h * dot);
        want_weight[static_cast<std::size_t>(c)] += dy(r, c) * h;
      }
    }
    expect_close(y, [&](auto r, auto c) { return want(r, c); });
    expect_close(dx, [&](auto r, auto c) { return want_dx(r, c); });
    expect_close(dweight, [&](auto c) { return want_weight[static_cast<std::size_t>(c)]; });
  }
}

TEST(CpuThreads, DoNotChangeReductions) {
  const Matrix<float> x(777, 130, 1), dy(777, 130, 2);
  const Buffer<float> weight(130, 3), mean(777, 4), rstd(777, 5);
  expect_same_for_any_threads([&] {
    Matrix<float> dx(777, 130, 6), sums(1, 130, 7);
    Buffer<float> dweight(130, 8), dbias(130, 9), column_sum(130, 10), total{0.0F};
    run(Workspace<LayerNormBackward>({.x = x.view(),
                                      .dy = dy.view(),
                                      .weight = weight.view(),
                                      .mean = mean.view(),
                                      .rstd = rstd.view(),
                                      .dx = dx.view(),
                                      .dweight = dweight.view(),
                                      .dbias = dbias.view(),
                                      .column_sum = column_sum.view()})
            .args,
        kStream);
    run(Workspace<ColumnSum>({.x = x.view(), .y = sums.view(), .write = GradWrite::overwrite}).args,
        kStream);
    run(Workspace<Sum>({.x = x.view(), .y = total.view(), .factor = 1.0}).args, kStream);
    std::vector<float> all = dx.data;
    for (const auto* part :
         {&dweight.data, &dbias.data, &column_sum.data, &sums.data, &total.data}) {
      all.insert(all.end(), part->begin(), part->end());
    }
    run(Workspace<LayerNormBackward>({.x = x.view(),
                                      .dy = dy.view(),
                                      .weight = weight.view(),
                                      .rstd = rstd.view(),
                                      .dweight = dweight.view(),
                                      .norm = Norm::rms})
            .args,
        kStream);
    all.insert(all.end(), dweight.data.begin(), dweight.data.end());
    return all;
  });
}

}  // namespace
}  // namespace lamina::kernels
