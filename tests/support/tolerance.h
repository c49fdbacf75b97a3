// SPDX-License-Identifier: MIT
// How close a result in a narrow dtype must be to the f64 reference. The reference is computed from
// inputs already rounded to the dtype, so what remains is the rounding of the arithmetic (f32,
// stated as `absolute` and `relative`) and one final rounding to the dtype (stated in units in the
// last place).
#pragma once

#include "core/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace lamina::testing {

/// Distance between neighbouring numbers of `dtype` (a float type) at the magnitude of `value`.
inline double ulp_of(DType dtype, double value) {
  int digits = 23;
  int min_exponent = -126;
  switch (dtype) {
    case DType::f64:
      digits = 52, min_exponent = -1022;
      break;
    case DType::bf16:
      digits = 7;
      break;
    case DType::f16:
      digits = 10, min_exponent = -14;
      break;
    default:
      break;
  }
  const int exponent = value == 0.0 ? min_exponent : std::max(std::ilogb(value), min_exponent);
  return std::ldexp(1.0, exponent - digits);
}

/// |got - want| in units in the last place of `dtype` at `want`: at most 1 when `got` is one of the
/// two neighbours of `want`.
inline double ulp_distance(DType dtype, double got, double want) {
  return std::abs(got - want) / ulp_of(dtype, want);
}

/// Allowed: |got - want| <= absolute + relative * |want| + ulps * ulp_of(dtype, want).
struct Tolerance {
  DType dtype = DType::f32;
  double ulps = 1.0;
  double absolute = 0.0;
  double relative = 0.0;
};

/// True when both are NaN, the same infinity, or within the tolerance.
inline bool is_close(double got, double want, const Tolerance& tolerance) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want)) return got == want;
  return std::abs(got - want) <= tolerance.absolute + tolerance.relative * std::abs(want) +
                                     tolerance.ulps * ulp_of(tolerance.dtype, want);
}

/// Every element close; on failure names the number of bad elements and the first and the worst
/// one.
inline ::testing::AssertionResult all_close(const std::vector<double>& got,
                                            const std::vector<double>& want,
                                            const Tolerance& tolerance) {
  if (got.size() != want.size()) {
    return ::testing::AssertionFailure()
           << "got " << got.size() << " elements, expected " << want.size();
  }
  std::size_t bad = 0;
  std::size_t first = 0;
  std::size_t worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (is_close(got[i], want[i], tolerance)) continue;
    if (bad++ == 0) first = worst = i;
    const bool is_worse =
        std::isnan(got[i]) || std::abs(got[i] - want[i]) > std::abs(got[worst] - want[worst]);
    if (is_worse) worst = i;
  }
  if (bad == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << bad << " of " << got.size() << " elements differ; first [" << first << "] got "
         << got[first] << ", expected " << want[first] << "; worst [" << worst << "] got "
         << got[worst] << ", expected " << want[worst] << " ("
         << ulp_distance(tolerance.dtype, got[worst], want[worst]) << " ulp of " << tolerance.dtype
         << ")";
}

/// ||got - want|| / ||want||; the norm of got when want is zero; NaN when an element is NaN.
inline double relative_l2(const std::vector<double>& got, const std::vector<double>& want) {
  double error = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return norm > 0.0 ? std::sqrt(error / norm) : std::sqrt(error);
}

/// Relative rounding error of one conversion to `dtype`: half a unit in the last place at 1.
inline double epsilon_of(DType dtype) {
  return 0.5 * ulp_of(dtype, 1.0);
}

}  // namespace lamina::testing
