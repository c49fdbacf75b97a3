// SPDX-License-Identifier: MIT
// What RMSNorm alone does, on both devices: infinities. Everything that it shares with LayerNorm is
// in the tests of that.
#include "tests/kernels/layer_norm_case.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace lamina::testing::layer_norm {
namespace {

using RmsNormRows = DeviceTest;

INSTANTIATE_TEST_SUITE_P(Cpu, RmsNormRows, ::testing::Values(kCpu));
INSTANTIATE_TEST_SUITE_P(Cuda, RmsNormRows, ::testing::Values(kCuda));

TEST_P(RmsNormRows, KeepTheirNanAndInfinity) {
  for (const NormDTypes& dtypes : norm_dtypes_of(GetParam())) {
    for (const std::int64_t cols : {64, 513, 4096, 20000}) {
      NormOperands on(
          {.dtypes = dtypes, .extent = {3, cols}, .device = GetParam(), .norm = Norm::rms});
      SCOPED_TRACE(cat(on.problem));
      run_on(GetParam(), on.args());
      const std::vector<double> x = on.x.values(), clean = on.y.values();
      constexpr double kInfinity = std::numeric_limits<double>::infinity();
      for (const double bad : {std::nan(""), kInfinity, -kInfinity}) {
        std::vector<double> spoiled = x;
        const auto at = static_cast<std::size_t>(cols + cols / 2);
        spoiled[at] = bad;
        on.set_x(spoiled);
        run_on(GetParam(), on.args());
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
  for (const NormDTypes& dtypes : norm_dtypes_of(GetParam())) {
    const std::int64_t rows = GetParam() == kCpu ? 129 : 1023;
    Problem p = problem_of_mode(dtypes, {rows, 768}, 2, Norm::rms);
    p.device = GetParam();
    const NormOperands on(p);
    const BackwardOperands back(p);
    std::vector<std::vector<double>> first;
    for (int repeat = 0; repeat < 20; ++repeat) {
      run_on(GetParam(), on.args());
      run_on(GetParam(), back.args());
      std::vector<std::vector<double>> now;
      for (const CudaTensor* output :
           {&on.sum, &on.y, &on.rstd, &back.dx, &back.dx_drop, &back.dweight, &back.column_sum})
        now.push_back(output->values());
      if (repeat == 0) first = now;
      ASSERT_EQ(now == first, true) << p << " run " << repeat;
    }
  }
}

}  // namespace
}  // namespace lamina::testing::layer_norm
