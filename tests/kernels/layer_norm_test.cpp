// SPDX-License-Identifier: MIT
// LayerNorm and RMSNorm on CUDA against the CPU kernel in f64: sizes, dtypes, layouts and which
// outputs there are; without rows and with skipped outputs on both devices. Special data and
// bit-for-bit properties are in norm_special_test.cpp, forced variants in row_policy_test.cpp.
#include "tests/kernels/layer_norm_case.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <vector>

namespace lamina::testing::layer_norm {
namespace {

using CudaLayerNorm = CudaTest;

class LayerNormOutputs : public DeviceTest {
 protected:
  /// In the types that models train in: bf16 beside f32 weights, on the CPU f32.
  static Problem problem(const Extent& extent, std::size_t mode, Norm norm = Norm::layer) {
    const DType rows = GetParam() == kCpu ? DType::f32 : DType::bf16;
    return problem_on(GetParam(), problem_of_mode({rows, DType::f32}, extent, mode, norm));
  }

  /// One for each of CUDA's variants; the CPU has one kernel.
  static std::vector<Extent> extents() {
    if (GetParam() == kCpu) return {{37, 136}, {21, 1032}};
    return {std::begin(kNormVariants), std::end(kNormVariants)};
  }
};

INSTANTIATE_TEST_SUITE_P(Cpu, LayerNormOutputs, ::testing::Values(kCpu));
INSTANTIATE_TEST_SUITE_P(Cuda, LayerNormOutputs, ::testing::Values(kCuda));

struct NormAndDTypes {
  Norm norm;
  NormDTypes dtypes;
};

std::vector<NormAndDTypes> norms_and_dtypes() {
  std::vector<NormAndDTypes> all;
  for (const Norm norm : kNorms) {
    for (const NormDTypes& dtypes : kNormDTypes)
      all.push_back({norm, dtypes});
    for (const NormDTypes& dtypes : kWideStreamDTypes)
      all.push_back({norm, dtypes});
  }
  return all;
}

class CudaNormDTypes : public CudaTestWith<NormAndDTypes> {
 protected:
  /// Differs between the dtypes, so that together they try more sizes.
  static std::size_t seed() {
    const NormDTypes& on = GetParam().dtypes;
    return static_cast<std::size_t>(on.rows) + 3 * static_cast<std::size_t>(on.parameters) +
           7 * static_cast<std::size_t>(on.stream);
  }

  static Problem problem(const Extent& extent, std::size_t mode) {
    return problem_of_mode(GetParam().dtypes, extent, mode, GetParam().norm);
  }
};

INSTANTIATE_TEST_SUITE_P(Cuda, CudaNormDTypes, ::testing::ValuesIn(norms_and_dtypes()),
                         [](const ::testing::TestParamInfo<NormAndDTypes>& at) {
                           return cat(at.param.norm == Norm::layer ? "layer_" : "rms_",
                                      at.param.dtypes);
                         });

TEST_P(CudaNormDTypes, ForwardMatchesTheReference) {
  std::size_t mode = seed();
  for (const Extent& extent : norm_extents(seed()))
    check_forward(problem(extent, mode++));
  for (const Extent& extent : kNormVariants) {
    for (mode = 0; mode < 3; ++mode)
      check_forward(problem(extent, mode));
  }
}

TEST_P(CudaNormDTypes, BackwardMatchesTheReference) {
  std::size_t mode = seed() + 1;
  for (const Extent& extent : norm_extents(seed() + 1)) {
    Problem p = problem(extent, mode++);
    p.write = mode % 2 == 0 ? GradWrite::overwrite : GradWrite::accumulate;
    check_backward(p);
  }
  for (const Extent& extent : kNormVariants) {
    for (mode = 0; mode < 3; ++mode) {
      Problem p = problem(extent, mode);
      check_backward(p, {.dx_drop = false, .column_sum = false});
      p.write = GradWrite::accumulate;
      check_backward(p);
    }
  }
}

TEST_P(CudaNormDTypes, HandlesMisalignedAndPitchedRows) {
  std::uint64_t layout_seed = 100 * seed();
  for (const Extent& extent : kNormVariants) {
    Problem p = problem(extent, 2);
    for (const Layout& layout : kNormLayouts) {
      p.layouts = {.common = layout};
      check_forward(p);
      check_backward(p);
    }
    for (int draw = 0; draw < 3; ++draw) {
      p.layouts = {.seed = ++layout_seed};
      check_forward(p);
      check_backward(p);
    }
  }
}

TEST_F(CudaLayerNorm, MatchesTheReferenceForManyRows) {
  std::size_t mode = 0;
  for (const Extent& extent : kNormTallExtents) {
    for (const NormDTypes& dtypes : {kNormDTypes[0], kNormDTypes[2], kWideStreamDTypes[0]}) {
      for (const Norm norm : kNorms) {
        const Problem p = problem_of_mode(dtypes, extent, mode++, norm);
        check_forward(p);
        check_backward(p);
      }
    }
  }
}

TEST_P(LayerNormOutputs, LeaveOutMeanAndRstd) {
  for (const Extent& extent : extents()) {
    for (std::size_t mode = 0; mode < 3; ++mode) {
      const NormOperands on(problem(extent, mode));
      run_on(GetParam(), on.args());
      const std::vector<double> y = on.y.values(), mean = on.mean.values();
      for (unsigned kept = 0; kept < 3; ++kept) {
        const NormOperands again(on.problem);
        LayerNorm args = again.args();
        if ((kept & 1U) == 0) args.mean = {};
        if ((kept & 2U) == 0) args.rstd = {};
        run_on(GetParam(), args);
        ASSERT_EQ(again.y.values() == y, true) << cat(on.problem, " kept ", kept);
        if (args.mean) {
          EXPECT_EQ(again.mean.values(), mean);
        }
      }
    }
  }
}

TEST_P(LayerNormOutputs, LeaveOutTheRstdOfRmsNorm) {
  for (const Extent& extent : extents()) {
    for (std::size_t mode = 0; mode < 3; ++mode) {
      const NormOperands on(problem(extent, mode, Norm::rms));
      run_on(GetParam(), on.args());
      const std::vector<double> y = on.y.values();
      on.y.tensor().fill(std::nan(""));
      LayerNorm args = on.args();
      args.rstd = {};
      run_on(GetParam(), args);
      ASSERT_EQ(on.y.values() == y, true) << on.problem;
    }
  }
}

TEST_P(LayerNormOutputs, AreAnySubsetOfTheGradients) {
  for (const NormDTypes& dtypes : norm_dtypes_of(GetParam())) {
    for (const Extent& extent : {Extent{37, 136}, Extent{5, 9001}, Extent{3, 20000}}) {
      if (GetParam() == kCpu && extent.cols > 1000) continue;  // it has one kernel
      for (unsigned bits = 0; bits<32; bits += extent.cols> 1000 ? 5U : 1U) {
        for (const std::size_t mode : {1U, 2U}) {  // dx_drop also without dropout
          for (const Norm norm : kNorms) {
            check_backward(problem_on(GetParam(), problem_of_mode(dtypes, extent, mode, norm)),
                           {.dx = (bits & 1U) != 0,
                            .dx_drop = (bits & 2U) != 0,
                            .dweight = (bits & 4U) != 0,
                            .dbias = (bits & 8U) != 0,
                            .column_sum = (bits & 16U) != 0});
          }
        }
      }
    }
  }
}

TEST_P(LayerNormOutputs, AreRightWithoutWeightAndBias) {
  for (const Extent& extent : extents()) {
    for (const Norm norm : kNorms) {
      Problem p = problem(extent, 1, norm);
      p.has_affine = false;
      check_forward(p);
      check_backward(p, {.dweight = false, .dbias = false});
    }
  }
}

TEST_P(LayerNormOutputs, MayBeSumOverResidualAndDxOverDyOrDsum) {
  for (const Extent& extent : extents()) {
    SCOPED_TRACE(cat("[", extent.rows, ", ", extent.cols, "]"));
    const Problem p = problem(extent, 2);
    NormOperands on(p);
    run_on(GetParam(), on.args());
    const std::vector<double> sum = on.sum.values(), y = on.y.values();
    LayerNorm args = on.args();
    args.sum = args.residual;
    run_on(GetParam(), args);
    EXPECT_EQ(on.residual.values() == sum, true);
    EXPECT_EQ(on.y.values() == y, true);

    for (const bool over_dy : {true, false}) {
      const BackwardOperands back(p);
      run_on(GetParam(), back.args());
      const std::vector<double> dx = back.dx.values(), dweight = back.dweight.values();
      LayerNormBackward aliased = back.args();
      aliased.dx = over_dy ? aliased.dy : aliased.dsum;
      run_on(GetParam(), aliased);
      EXPECT_EQ((over_dy ? back.dy : back.dsum).values() == dx, true);
      EXPECT_EQ(back.dweight.values() == dweight, true);
    }
  }
}

TEST_P(LayerNormOutputs, AreZeroSumsForNoRows) {
  for (const NormDTypes& dtypes : norm_dtypes_of(GetParam())) {
    for (const Norm norm : kNorms) {
      for (const GradWrite write : {GradWrite::overwrite, GradWrite::accumulate}) {
        Problem p{.dtypes = dtypes, .extent = {0, 768}, .device = GetParam(), .norm = norm};
        p.write = write;
        SCOPED_TRACE(cat(p));
        run_on(GetParam(), NormOperands(p).args());
        const BackwardOperands back(p);
        const std::vector<double> zeros_wanted(768, 0.0);
        const auto expected = [&](const CudaTensor& sum) {
          return write == GradWrite::accumulate ? sum.values() : zeros_wanted;
        };
        const std::vector<double> dweight = expected(back.dweight);
        const std::vector<double> dbias = back.dbias ? expected(back.dbias) : zeros_wanted;
        run_on(GetParam(), back.args());
        EXPECT_EQ(back.dweight.values(), dweight);
        if (back.dbias) {
          EXPECT_EQ(back.dbias.values(), dbias);
        }
        EXPECT_EQ(back.column_sum.values(), zeros_wanted);
      }
    }
  }
}

TEST_P(LayerNormOutputs, StayAsTheyAreWhenSkipped) {
  const Problem p{.dtypes = {DType::f32, DType::f32}, .extent = {37, 136}, .device = GetParam()};
  const BackwardOperands back(p);
  LayerNormBackward args = back.args();
  args.dx_write = args.dweight_write = args.dbias_write = GradWrite::skip;
  run_on(GetParam(), args);
  for (const CudaTensor* output : {&back.dx, &back.dweight, &back.dbias}) {
    for (const double value : output->values())
      ASSERT_TRUE(std::isnan(value));
  }
  EXPECT_FALSE(std::isnan(back.column_sum.values()[0]));
}

TEST_F(CudaLayerNorm, ThrowsForF64) {
  const Problem p{.dtypes = {DType::f64, DType::f64}, .extent = {2, 8}};
  const NormOperands on(p);
  EXPECT_THROW(run_on(kCuda, on.args()), DTypeError);
}

}  // namespace
}  // namespace lamina::testing::layer_norm
