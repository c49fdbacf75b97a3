// SPDX-License-Identifier: MIT
// Runs one kernel on either backend for tests that compare them: the workspace is made here,
// exactly as long as the kernel asks for, and on CUDA followed by bytes that must not change.
#pragma once

#include "core/launch.h"
#include "core/tensor.h"
#include "tests/support/cuda_case.h"
#include "tests/support/tolerance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lamina::testing {

struct Extent {
  std::int64_t rows, cols;
};

/// One row, one column, odd sizes, sizes beside the vector width, short and long rows.
inline constexpr Extent kExtents[] = {{1, 1},    {1, 7},    {6, 1},    {6, 33},  {8, 64},
                                      {12, 130}, {4, 1000}, {6, 1030}, {4, 2056}};

/// Aligned; aligned with a pitch; misaligned; both.
inline constexpr Layout kLayouts[] = {{0, 0}, {0, 16}, {1, 0}, {3, 5}};

inline constexpr GradWrite kWrites[] = {GradWrite::overwrite, GradWrite::accumulate};

/// Runs the kernel of `args` on the current stream of the device.
template <class Args>
void run_on(Device device, Args args) {
  const Stream stream = current_stream(device);
  if constexpr (requires { args.workspace; }) {
    constexpr std::int64_t kGuard = 256;     // bytes
    constexpr std::uint8_t kPattern = 0xff;  // NaN in every float dtype
    const std::int64_t bytes = workspace_bytes_of(stream, args);
    const Tensor block = full({bytes + kGuard}, kPattern, DType::u8, device);
    args.workspace = {block.data(), bytes, DType::u8};
    launch(stream, args);
    EXPECT_THAT(block.slice(0, bytes, bytes + kGuard).to_vector<std::uint8_t>(),
                ::testing::Each(kPattern))
        << name_of(args) << " wrote behind its workspace";
  } else {
    launch(stream, args);
  }
}

/// A gradient to be written: NaN for overwrite, numbers for accumulate.
inline CudaTensor gradient_for(GradWrite write, const Shape& shape, DType dtype,
                               Generator& generator, Layout layout = {}) {
  return write == GradWrite::accumulate
             ? CudaTensor::normal(shape, dtype, generator, 1.0, 0.0, layout)
             : CudaTensor::poisoned(shape, dtype, layout);
}

/// Arithmetic in f32 with a result of `dtype`: `absolute` is the size of the terms times the
/// rounding errors they may add up to.
inline Tolerance f32_arithmetic(DType dtype, double absolute = 0.0, double relative = 2e-6) {
  return {.dtype = dtype, .ulps = 1.0, .absolute = absolute, .relative = relative};
}

/// Ten results of `run`, which returns values, must have the same bits.
template <class Run>
void expect_same_bits(const Run& run) {
  const std::vector<double> first = run();
  for (int repeat = 1; repeat < 10; ++repeat)
    ASSERT_EQ(run(), first) << "repeat " << repeat;
}

inline std::string dtype_name(const ::testing::TestParamInfo<DType>& info) {
  return std::string(name_of(info.param));
}

/// What CUDA kernels compute with.
inline const auto kCudaDTypes = ::testing::Values(DType::f32, DType::f16, DType::bf16);

}  // namespace lamina::testing
