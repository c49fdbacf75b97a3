// SPDX-License-Identifier: MIT
// RMSNorm on CUDA against the CPU kernel in f64; what needs no reference runs on both devices.
#include "core/kernels/rms_norm.h"

#include "tests/kernels/norm_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace lamina::testing {
namespace {

using kernels::RmsNorm;
using kernels::RmsNormBackward;

constexpr double kEps = 1e-5;

struct Problem {
  NormDTypes dtypes;
  Extent extent;
  Layouts layouts{};
  bool has_weight = true;
  GradWrite write = GradWrite::overwrite;
  Device device = kCuda;
};

struct Operands {
  CudaTensor x, dy, weight, y, rstd, dx, dweight;
  GradWrite write;

  explicit Operands(const Problem& p) : write(p.write) {
    Generator generator(static_cast<std::uint64_t>(p.extent.rows * 1000003 + p.extent.cols));
    const auto [row_count, cols] = p.extent;
    const Shape shape{row_count, cols};
    const DType dtype = p.dtypes.rows;
    std::uint64_t operand = 0;
    const auto layout = [&] {
      Layout at = p.layouts(operand++);
      at.device = p.device;
      return at;
    };
    const auto flat_layout = [&] { return Layout{layout().shift, 0, p.device}; };
    x = CudaTensor::normal(shape, dtype, generator, 1.0, 0.3, layout());
    dy = CudaTensor::normal(shape, dtype, generator, 1.0, 0.1, layout());
    y = CudaTensor::poisoned(shape, dtype, layout());
    rstd = CudaTensor::poisoned({row_count}, DType::f32, flat_layout());
    dx = gradient_for(write, shape, dtype, generator, layout());
    if (!p.has_weight) return;
    weight = CudaTensor::normal({cols}, p.dtypes.parameters, generator, 0.3, 1.0, flat_layout());
    dweight = gradient_for(write, {cols}, p.dtypes.parameters, generator, flat_layout());
  }

  RmsNorm forward() const {
    return {.x = rows(x.tensor()),
            .weight = flat(weight.tensor()),
            .y = rows(y.tensor()),
            .rstd = flat(rstd.tensor()),
            .eps = kEps};
  }

  RmsNormBackward backward() const {
    return {.x = rows(x.tensor()),
            .dy = rows(dy.tensor()),
            .weight = flat(weight.tensor()),
            .rstd = flat(rstd.tensor()),
            .dx = rows(dx.tensor()),
            .dweight = flat(dweight.tensor()),
            .dx_write = write,
            .dweight_write = write,
            .workspace = {}};
  }
};

void check(const Problem& p) {
  SCOPED_TRACE(cat(p.dtypes, " [", p.extent.rows, ", ", p.extent.cols, "] shift ",
                   p.layouts.common.shift, " pad ", p.layouts.common.pad, " layout seed ",
                   p.layouts.seed, " weight ", p.has_weight, " write ", static_cast<int>(p.write)));
  const Operands on(p);
  const Tensor x = on.x.reference(), dy = on.dy.reference(), weight = on.weight.reference();
  const Tensor y = empty_like(x), rstd = empty({p.extent.rows}, DType::f64);
  run_on(kCuda, on.forward());
  RmsNorm forward = on.forward();
  forward.x = rows(x);
  forward.weight = flat(weight);
  forward.y = rows(y);
  forward.rstd = flat(rstd);
  run(forward, CpuStream{});
  EXPECT_TRUE(all_close(on.y.values(), y.to_vector<double>(), norm_tolerance(p.dtypes.rows)))
      << "y";
  EXPECT_TRUE(all_close(on.rstd.values(), rstd.to_vector<double>(), {.relative = 1e-6})) << "rstd";
  EXPECT_TRUE(on.y.guards_intact());
  EXPECT_TRUE(on.rstd.guards_intact());

  // The backward pass of the reference starts from the rstd that was saved.
  const Tensor saved = on.rstd.reference();
  const Tensor dx = p.write == GradWrite::accumulate ? on.dx.reference() : empty_like(x);
  const Tensor dweight = p.write == GradWrite::accumulate && p.has_weight
                             ? on.dweight.reference()
                             : zeros({p.extent.cols}, DType::f64);
  std::vector<double> dx_bound = dx.to_vector<double>();
  std::vector<double> dweight_bound = dweight.to_vector<double>();
  const bool accumulates = p.write == GradWrite::accumulate;
  const auto scaled = [&](double value) {
    return accumulates ? kNormArithmetic * std::abs(value) : 0.0;
  };
  std::transform(dx_bound.begin(), dx_bound.end(), dx_bound.begin(), scaled);
  std::transform(dweight_bound.begin(), dweight_bound.end(), dweight_bound.begin(), scaled);
  RmsNormBackward backward = on.backward();
  backward.x = rows(x);
  backward.dy = rows(dy);
  backward.weight = flat(weight);
  backward.rstd = flat(saved);
  backward.dx = rows(dx);
  backward.dweight = flat(dweight);
  run_on(kCpu, backward);
  run_on(kCuda, on.backward());

  const auto width = static_cast<std::size_t>(p.extent.cols);
  const double *const xs = x.data<double>(), *const dys = dy.data<double>();
  const std::vector<double> want_dx = dx.to_vector<double>();
  const std::vector<double> want_dweight = dweight.to_vector<double>();
  for (std::size_t r = 0; r < static_cast<std::size_t>(p.extent.rows); ++r) {
    const double row_rstd = saved.data<double>()[r];
    double largest = 0.0;
    for (std::size_t c = 0; c < width; ++c) {
      const double scale = weight ? weight.data<double>()[c] : 1.0;
      largest = std::max(largest, std::abs(dys[r * width + c] * scale));
    }
    for (std::size_t c = 0; c < width; ++c) {
      const std::size_t i = r * width + c;
      const double h = std::abs(xs[i] * row_rstd);
      dx_bound[i] +=
          kNormArithmetic * row_rstd * largest * (1.0 + h) + ulp_of(p.dtypes.rows, want_dx[i]);
      dweight_bound[c] += kNormArithmetic * std::abs(dys[i]) * h;
    }
  }
  EXPECT_TRUE(all_within(on.dx.values(), want_dx, dx_bound)) << "dx";
  EXPECT_TRUE(on.dx.guards_intact());
  if (!p.has_weight) return;
  for (std::size_t c = 0; c < width; ++c) {
    dweight_bound[c] += ulp_of(p.dtypes.parameters, want_dweight[c]);
  }
  EXPECT_TRUE(all_within(on.dweight.values(), want_dweight, dweight_bound)) << "dweight";
  if (p.dtypes.parameters == DType::f32 && p.extent.cols >= 64) {
    EXPECT_LE(relative_l2(on.dweight.values(), want_dweight), 1e-6) << "dweight";
  }
  EXPECT_TRUE(on.dweight.guards_intact());
}

using CudaRmsNorm = CudaTest;

class RmsNormRows : public DeviceTest {
 protected:
  /// In every dtype of the device.
  static std::vector<Operands> operands(const Extent& extent) {
    std::vector<Operands> all;
    for (const NormDTypes& dtypes : kNormDTypes) {
      if (GetParam() == kCpu && dtypes.rows != DType::f32) continue;
      all.emplace_back(Problem{.dtypes = dtypes, .extent = extent, .device = GetParam()});
    }
    return all;
  }
};

INSTANTIATE_TEST_SUITE_P(Cpu, RmsNormRows, ::testing::Values(kCpu));
INSTANTIATE_TEST_SUITE_P(Cuda, RmsNormRows, ::testing::Values(kCuda));

class CudaRmsNormDTypes : public CudaTestWith<NormDTypes> {};

INSTANTIATE_TEST_SUITE_P(Cuda, CudaRmsNormDTypes, ::testing::ValuesIn(kNormDTypes),
                         name_of_norm_case);

TEST_P(CudaRmsNormDTypes, MatchesTheReference) {
  bool accumulates = GetParam().rows == DType::f32;
  const std::size_t seed = 20 + static_cast<std::size_t>(GetParam().rows) +
                           3 * static_cast<std::size_t>(GetParam().parameters);
  for (const Extent& extent : norm_extents(seed)) {
    accumulates = !accumulates;
    check({.dtypes = GetParam(),
           .extent = extent,
           .write = accumulates ? GradWrite::accumulate : GradWrite::overwrite});
  }
  for (const Extent& extent : kNormVariants) {
    check({.dtypes = GetParam(), .extent = extent, .has_weight = false});
    check({.dtypes = GetParam(), .extent = extent, .write = GradWrite::accumulate});
    for (const Layout& layout : kNormLayouts) {
      check({.dtypes = GetParam(), .extent = extent, .layouts = {.common = layout}});
    }
    for (const std::uint64_t draw : {1U, 2U, 3U}) {
      check({.dtypes = GetParam(), .extent = extent, .layouts = {.seed = 10 * seed + draw}});
    }
  }
}

TEST_F(CudaRmsNorm, MatchesTheReferenceForManyRows) {
  for (const Extent& extent : kNormTallExtents)
    check({.dtypes = {DType::bf16, DType::f32}, .extent = extent});
}

TEST_P(RmsNormRows, AreTheSameWithoutRstd) {
  for (const Extent& extent : kNormVariants) {
    for (const Operands& on : operands(extent)) {
      run_on(GetParam(), on.forward());
      const std::vector<double> want = on.y.values();
      on.y.tensor().fill(std::numeric_limits<double>::quiet_NaN());
      RmsNorm args = on.forward();
      args.rstd = {};
      run_on(GetParam(), args);
      ASSERT_EQ(on.y.values() == want, true) << on.y.tensor().dtype() << " " << extent.cols;
    }
  }
}

TEST_P(RmsNormRows, KeepTheirNanAndInfinity) {
  for (const std::int64_t cols : {64, 513, 4096, 20000}) {
    for (Operands& on : operands({3, cols})) {
      const DType dtype = on.x.tensor().dtype();
      SCOPED_TRACE(cat(dtype, " ", cols));
      run_on(GetParam(), on.forward());
      const std::vector<double> x = on.x.values(), clean = on.y.values();
      for (const double bad :
           {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        std::vector<double> spoiled = x;
        const auto at = static_cast<std::size_t>(cols + cols / 2);
        spoiled[at] = bad;
        on.x = CudaTensor(spoiled, {3, cols}, dtype, {.device = GetParam()});
        run_on(GetParam(), on.forward());
        const std::vector<double> got = on.y.values();
        EXPECT_TRUE(std::isnan(got[at]));
        for (std::size_t i = 0; i < got.size(); ++i) {
          if (static_cast<std::int64_t>(i) / cols != 1) {
            ASSERT_EQ(got[i], clean[i]) << "element " << i;
          } else if (std::isnan(bad)) {
            ASSERT_TRUE(std::isnan(got[i])) << "element " << i;
          } else if (i != at) {  // over an infinite root mean square
            ASSERT_EQ(got[i], 0.0) << "element " << i;
          }
        }
      }
    }
  }
}

TEST_P(RmsNormRows, GiveTheSameBitsTwentyTimes) {
  for (const Operands& on : operands({1023, 768})) {
    run_on(GetParam(), on.forward());
    std::vector<std::vector<double>> first;
    for (int repeat = 0; repeat < 20; ++repeat) {
      run_on(GetParam(), on.backward());
      const std::vector<std::vector<double>> now = {on.dx.values(), on.dweight.values()};
      if (repeat == 0) first = now;
      ASSERT_EQ(now == first, true) << on.x.tensor().dtype() << " run " << repeat;
    }
  }
}

TEST_P(RmsNormRows, GiveZeroSumsWhenThereAreNone) {
  for (const Operands& on : operands({0, 768})) {
    run_on(GetParam(), on.forward());
    run_on(GetParam(), on.backward());
    EXPECT_EQ(on.dweight.values(), std::vector<double>(768, 0.0));
  }
}

}  // namespace
}  // namespace lamina::testing
