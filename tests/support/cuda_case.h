// SPDX-License-Identifier: MIT
// For tests of CUDA kernels against the CPU kernels in f64. CudaTest skips without a device (or
// fails, when LAMINA_REQUIRE_CUDA is set). CudaTensor is an operand on the device inside a guarded
// block: misaligned or pitched on demand, poisoned when it is an output, and readable as f64. The
// tests of a DeviceTest, which run on the CPU too, have their operands there by its layout.
#pragma once

#include "core/device.h"
#include "core/random.h"
#include "core/tensor.h"
#include "core/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

namespace lamina::testing {

inline constexpr Device kCuda{DeviceKind::cuda, 0};

/// Base of test suites that need a CUDA device; their names begin with Cuda.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() > 0) return;
    if (std::getenv("LAMINA_REQUIRE_CUDA") != nullptr) {
      FAIL() << "no CUDA device, but LAMINA_REQUIRE_CUDA is set";
    }
    GTEST_SKIP() << "no CUDA device";
  }
};

/// The same for parameterised suites.
template <class Param>
class CudaTestWith : public CudaTest, public ::testing::WithParamInterface<Param> {};

/// For suites that run on the CPU and on CUDA: instantiated as Cpu with kCpu and as Cuda with
/// kCuda.
class DeviceTest : public CudaTestWith<Device> {
 protected:
  void SetUp() override {
    if (GetParam() != kCpu) CudaTest::SetUp();
  }
};

/// Names a parameter by its place and its text, for INSTANTIATE_TEST_SUITE_P.
struct NameOfCase {
  template <class Case>
  std::string operator()(const ::testing::TestParamInfo<Case>& at) const {
    return cat(at.index, "_", at.param);
  }
};

/// Where a CudaTensor lies: `shift` elements after an aligned address, `pad` elements between rows.
struct Layout {
  std::int64_t shift = 0;
  std::int64_t pad = 0;
  Device device = kCuda;
};

/// `count` normal numbers times `scale` plus `offset`. They repeat after 65537: drawn once, because
/// millions are needed.
inline std::vector<double> normal_values(std::int64_t count, Generator& generator,
                                         double scale = 1.0, double offset = 0.0) {
  constexpr std::size_t kPeriod = 65537;
  static const std::vector<double> table = [] {
    std::vector<double> drawn(kPeriod);
    for (std::size_t i = 0; i < kPeriod; ++i)
      drawn[i] = normal_at({.seed = 1, .offset = 0}, i);
    return drawn;
  }();
  const auto start = static_cast<std::size_t>(uniform_at(generator.next(), 0) * kPeriod);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = offset + scale * table[(start + i * 40503) % kPeriod];
  }
  return values;
}

class CudaTensor {
 public:
  /// An empty handle, for an operand that is not there.
  CudaTensor() = default;

  /// The values (row-major), rounded to `dtype`.
  CudaTensor(const std::vector<double>& values, const Shape& shape, DType dtype, Layout layout = {})
      : shape_(shape), cols_(shape.rank() > 0 ? shape[-1] : 1), layout_(layout) {
    const std::int64_t row_count = cols_ > 0 ? shape.elements() / cols_ : 0;
    const std::int64_t total = 2 * kGuard + layout.shift + row_count * (cols_ + layout.pad);
    std::vector<double> host(static_cast<std::size_t>(total), kSentinel);
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
      host[position(i)] = values[static_cast<std::size_t>(i)];
    }
    block_ = from_vector(host, {total}).to(dtype).to(layout.device);
    Strides strides{};
    std::int64_t stride = cols_ + layout.pad;
    for (int d = shape.rank() - 1; d >= 0; --d) {
      const bool is_last = d == shape.rank() - 1;
      strides[static_cast<std::size_t>(d)] = is_last ? 1 : stride;
      if (!is_last) stride *= shape[d];
    }
    tensor_ = Tensor(block_.storage(), kGuard + layout.shift, shape, strides, dtype);
  }

  /// Normal numbers, rounded to `dtype`.
  static CudaTensor normal(const Shape& shape, DType dtype, Generator& generator,
                           double scale = 1.0, double offset = 0.0, Layout layout = {}) {
    return {normal_values(shape.elements(), generator, scale, offset), shape, dtype, layout};
  }

  /// An output: NaN everywhere, so that an element that is not written, or read first, shows.
  static CudaTensor poisoned(const Shape& shape, DType dtype, Layout layout = {}) {
    const std::vector<double> nans(static_cast<std::size_t>(shape.elements()),
                                   std::numeric_limits<double>::quiet_NaN());
    return {nans, shape, dtype, layout};
  }

  /// The operand on the device; an empty handle for a default-constructed CudaTensor.
  const Tensor& tensor() const { return tensor_; }

  explicit operator bool() const { return static_cast<bool>(tensor_); }

  /// What is on the device now, row-major. Waits for the device.
  std::vector<double> values() const {
    const std::vector<double> host = block_.to_vector<double>();
    std::vector<double> out(static_cast<std::size_t>(shape_.elements()));
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = host[position(static_cast<std::int64_t>(i))];
    }
    return out;
  }

  /// The same as an f64 tensor on the CPU, an input of the reference; empty for an empty operand.
  Tensor reference() const { return tensor_ ? from_vector(values(), shape_) : Tensor(); }

  /// True when no element around the operand or between its rows was written.
  ::testing::AssertionResult guards_intact() const {
    std::vector<double> host = block_.to_vector<double>();
    for (std::int64_t i = 0; i < shape_.elements(); ++i)
      host[position(i)] = kSentinel;
    for (std::size_t i = 0; i < host.size(); ++i) {
      if (host[i] == kSentinel) continue;
      return ::testing::AssertionFailure()
             << "element " << static_cast<std::int64_t>(i) - kGuard - layout_.shift
             << " relative to the first one was overwritten with " << host[i];
    }
    return ::testing::AssertionSuccess();
  }

 private:
  static constexpr std::int64_t kGuard = 256;    // elements before and after, keeps the alignment
  static constexpr double kSentinel = -12288.0;  // 1.5 * 2^13: exact in every float dtype

  std::size_t position(std::int64_t i) const {
    return static_cast<std::size_t>(kGuard + layout_.shift + i / cols_ * (cols_ + layout_.pad) +
                                    i % cols_);
  }

  Shape shape_;
  std::int64_t cols_ = 1;
  Layout layout_;
  Tensor block_;
  Tensor tensor_;
};

}  // namespace lamina::testing
