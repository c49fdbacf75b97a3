// SPDX-License-Identifier: MIT
// Sizes, dtypes and layouts that the tests of LayerNorm and RMSNorm on CUDA share. The sizes cross
// every limit of cuda_kernels/tuning/layer_norm.h: a warp per row, a block per row, rows in
// registers and not, 16-byte and single-element access; and the numbers of rows lie around the
// multiprocessors of an H200.
#pragma once

#include "core/dtype.h"
#include "core/launch.h"
#include "tests/kernels/cuda_run.h"
#include "tests/support/bounds.h"
#include "tests/support/cuda_case.h"
#include "tests/support/tolerance.h"

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace lamina::testing {

inline constexpr Extent kNormExtents[] = {
    {1, 1},      {7, 1},     {33, 2},    {133, 3},    {3, 5},     {132, 8},
    {1023, 17},  {33, 31},   {4096, 64}, {133, 127},  {132, 128}, {7, 129},
    {1023, 256}, {2, 257},   {33, 384},  {3, 513},    {533, 768}, {133, 1000},
    {132, 1024}, {7, 1025},  {1, 1600},  {133, 2048}, {33, 3000}, {70, 4096},
    {3, 4097},   {33, 5120}, {2, 5121},  {70, 8192},  {7, 8200},  {2, 16384},
    {3, 16392},  {2, 32768}, {2, 40000}, {1, 65537},  {2, 65544}, {1, 131072}};

/// One size for each way that a row is held.
inline constexpr Extent kNormVariants[] = {{37, 64},  {37, 136}, {37, 513}, {21, 1032},
                                           {9, 6400}, {5, 9001}, {3, 20000}};

inline constexpr Layout kNormLayouts[] = {{1, 0}, {0, 1}, {0, 8}, {3, 5}, {8, 16}};

struct NormDTypes {
  DType rows, parameters;
};

inline constexpr NormDTypes kNormDTypes[] = {{DType::f32, DType::f32},
                                             {DType::bf16, DType::bf16},
                                             {DType::bf16, DType::f32},
                                             {DType::f16, DType::f16},
                                             {DType::f16, DType::f32}};

inline std::ostream& operator<<(std::ostream& out, const NormDTypes& dtypes) {
  return out << dtypes.rows << "_" << dtypes.parameters;
}

inline std::string name_of_norm_case(const ::testing::TestParamInfo<NormDTypes>& info) {
  return cat(info.param);
}

/// Rounding of the f32 arithmetic, relative to the magnitudes that are added up.
inline constexpr double kNormArithmetic = 4e-6;

/// What y may be off by: one final rounding, and f32 arithmetic on numbers of order one.
inline Tolerance norm_tolerance(DType dtype) {
  return {.dtype = dtype, .ulps = 1.0, .absolute = 2e-6, .relative = 2e-6};
}

}  // namespace lamina::testing
