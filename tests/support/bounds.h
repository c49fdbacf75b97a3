// SPDX-License-Identifier: MIT
// Comparison with a bound per element, for results whose error follows from the magnitudes that
// were summed: matrix products and attention.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <vector>

namespace lamina::testing {

/// |got[i] - want[i]| <= bound[i] for every i; a NaN fails. On failure names the number of bad
/// elements and the one that is furthest out.
inline ::testing::AssertionResult all_within(const std::vector<double>& got,
                                             const std::vector<double>& want,
                                             const std::vector<double>& bound) {
  if (got.size() != want.size() || want.size() != bound.size()) {
    return ::testing::AssertionFailure() << "got " << got.size() << " elements, expected "
                                         << want.size() << " and " << bound.size() << " bounds";
  }
  std::size_t bad = 0;
  std::size_t worst = 0;
  double worst_ratio = -1.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]);
    if (error <= bound[i]) continue;
    ++bad;
    const double ratio = std::isnan(error) ? INFINITY : error / bound[i];
    if (ratio > worst_ratio) {
      worst_ratio = ratio;
      worst = i;
    }
  }
  if (bad == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << bad << " of " << got.size() << " elements differ; worst [" << worst << "] got "
         << got[worst] << ", expected " << want[worst] << " within " << bound[worst];
}

}  // namespace lamina::testing
