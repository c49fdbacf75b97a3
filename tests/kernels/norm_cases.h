// SPDX-License-Identifier: MIT
// Sizes, dtypes and layouts that the tests of LayerNorm and RMSNorm share. The numbers of
// columns lie beside every power of two, pack of registers and vector width that the kernels
// distinguish, the numbers of rows around the multiprocessors of an H200.
#pragma once

#include "core/dtype.h"
#include "core/launch.h"
#include "core/random.h"
#include "tests/kernels/cuda_run.h"
#include "tests/support/bounds.h"
#include "tests/support/cuda_case.h"
#include "tests/support/tolerance.h"

#include <cstdint>
#include <iterator>
#include <ostream>
#include <string>
#include <vector>

namespace lamina::testing {

inline constexpr std::int64_t kNormRows[] = {
    1, 2, 3, 7, 31, 32, 33, 63, 65, 127, 131, 132, 133, 264, 265, 1023, 4096, 4097, 65536, 70001};

inline constexpr std::int64_t kNormCols[] = {
    1,     2,     3,     4,     5,     7,     8,     9,     15,     16,    17,   31,   32,    33,
    63,    64,    65,    96,    127,   128,   129,   192,   255,    256,   257,  384,  511,   512,
    513,   640,   768,   769,   1000,  1023,  1024,  1025,  1128,   1280,  1536, 1600, 2047,  2048,
    2560,  3000,  3072,  4095,  4096,  4097,  5000,  5120,  6144,   8191,  8192, 8200, 10240, 12288,
    12800, 16384, 16392, 20480, 32768, 32776, 49152, 65536, 131072, 262144};

/// Every number of columns, each with one of the numbers of rows that give at most `elements`;
/// which one depends on `seed`. The reference on the CPU is what limits the sizes.
inline std::vector<Extent> norm_extents(std::size_t seed, std::int64_t elements = 24576) {
  std::vector<Extent> extents;
  for (const std::int64_t cols : kNormCols) {
    std::size_t fitting = 1;
    while (fitting < std::size(kNormRows) && kNormRows[fitting] * cols <= elements)
      ++fitting;
    extents.push_back({kNormRows[(7 * extents.size() + 5 * seed) % fitting], cols});
  }
  return extents;
}

/// Enough rows for several rounds of a persistent grid.
inline constexpr Extent kNormTallExtents[] = {
    {70001, 8}, {4097, 64}, {1023, 257}, {533, 768}, {397, 1024}};

/// One size for each way that a row is held.
inline constexpr Extent kNormVariants[] = {{37, 64},  {37, 136}, {37, 513},  {21, 1032},
                                           {9, 6400}, {5, 9001}, {67, 20488}};

inline constexpr Layout kNormLayouts[] = {{1, 0}, {0, 1}, {0, 8}, {3, 5}, {8, 16}};

struct NormDTypes {
  DType rows, parameters;
  DType stream = rows;  // of the residual stream
};

inline constexpr NormDTypes kNormDTypes[] = {{DType::f32, DType::f32},
                                             {DType::bf16, DType::bf16},
                                             {DType::bf16, DType::f32},
                                             {DType::f16, DType::f16},
                                             {DType::f16, DType::f32}};

/// A residual stream that is wider than the rows.
inline constexpr NormDTypes kWideStreamDTypes[] = {{DType::bf16, DType::bf16, DType::f32},
                                                   {DType::bf16, DType::f32, DType::f32},
                                                   {DType::f16, DType::f16, DType::f32},
                                                   {DType::f16, DType::f32, DType::f32}};

/// For tests of LayerNorm on both devices: f32, what else the device computes in, a wider stream.
inline std::vector<NormDTypes> norm_dtypes_of(Device device) {
  if (device == kCpu) return {kNormDTypes[0], {DType::f32, DType::f32, DType::f64}};
  return {kNormDTypes[0], kNormDTypes[2], kWideStreamDTypes[1]};
}

inline std::ostream& operator<<(std::ostream& out, const NormDTypes& dtypes) {
  out << dtypes.rows << "_" << dtypes.parameters;
  return dtypes.stream == dtypes.rows ? out : out << "_stream_" << dtypes.stream;
}

/// Layouts of operands: the same for each, or with a seed one that is drawn for each.
struct Layouts {
  Layout common{};
  std::uint64_t seed = 0;  // 0: common

  /// Of operand number i. A vector takes the shift only.
  Layout operator()(std::uint64_t i) const {
    if (seed == 0) return common;
    constexpr std::int64_t kShifts[] = {0, 1, 2, 4, 8}, kPads[] = {0, 0, 1, 8, 24};
    const PhiloxBlock words = philox_words({.seed = seed, .offset = 0}, i);
    return {kShifts[words.x % 5], kPads[words.y % 5]};
  }
};

/// Rounding of the f32 arithmetic, relative to the magnitudes that are added up.
inline constexpr double kNormArithmetic = 4e-6;

/// What y may be off by, in f32: `error` of numbers of order one and of y itself. In 16 bits: y is
/// one of the two neighbours of the exact value, but for values so small that f32 does not know
/// them.
inline Tolerance norm_tolerance(DType dtype, double error = 1e-6) {
  const bool is_f32 = dtype == DType::f32;
  return {.dtype = dtype,
          .ulps = is_f32 ? 0.0 : 1.0,
          .absolute = error,
          .relative = is_f32 ? error : 0.0};
}

}  // namespace lamina::testing
