// SPDX-License-Identifier: MIT
// Fill, FillFromScalar and Copy on CUDA against the CPU kernels.
#include "core/kernels/copy.h"

#include "core/kernels/fill.h"
#include "tests/kernels/cuda_run.h"

#include <algorithm>
#include <numeric>

namespace lamina::testing {
namespace {

constexpr DType kAllDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::f64,
                                DType::i32, DType::i64, DType::u8};
constexpr DType kFloats[] = {DType::f32, DType::f16, DType::bf16, DType::f64};

class CudaFill : public CudaTest {};

class CudaCopy : public CudaTest {};

kernels::Copy copy_args(const Tensor& from, const Tensor& to, GradWrite write) {
  return {.from = from.data(),
          .to = to.data(),
          .shape = from.shape(),
          .from_strides = from.strides(),
          .to_strides = to.strides(),
          .from_dtype = from.dtype(),
          .to_dtype = to.dtype(),
          .write = write};
}

/// `count` numbers that every dtype can hold after a conversion: 0.25 steps in [0, 200).
Tensor numbers(std::int64_t count, DType dtype) {
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<double>(i * 37 % 797) / 4.0;
  }
  return from_vector(values, {count}).to(dtype);
}

TEST_F(CudaFill, SetsEveryElementAndNoOther) {
  for (const DType dtype : kAllDTypes) {
    for (const auto [rows, cols] : kExtents) {
      for (const Layout layout : kLayouts) {
        SCOPED_TRACE(cat(dtype, " ", rows, " x ", cols, ", shift ", layout.shift));
        const std::int64_t pitch = cols + layout.pad;
        const std::int64_t total = rows * pitch + layout.shift + 8;
        const Tensor block =
            from_vector(std::vector<double>(static_cast<std::size_t>(total), 9.0), {total})
                .to(dtype)
                .to(kCuda);
        const Tensor y(block.storage(), layout.shift, {rows, cols}, {pitch, 1}, dtype);
        run_on(kCuda, kernels::Fill{.y = lamina::rows(y), .value = 2.5});
        const double value = is_float(dtype) ? 2.5 : 2.0;
        std::vector<double> want(static_cast<std::size_t>(total), 9.0);
        for (std::int64_t r = 0; r < rows; ++r) {
          std::fill_n(want.begin() + layout.shift + r * pitch, cols, value);
        }
        ASSERT_EQ(block.to_vector<double>(), want);
      }
    }
  }
}

TEST_F(CudaFill, SpreadsAScalarOfAnyDType) {
  Generator generator(5);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const DType scalar_dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (const Layout layout : kLayouts) {
        const Tensor scalar = full({1}, 1.5, scalar_dtype, kCuda);
        const auto y = CudaTensor::normal({5, 37}, dtype, generator, 1.0, 0.0, layout);
        const Tensor want = y.reference(), scalar_ref = full({1}, 1.5, DType::f64);
        run_on(kCpu, kernels::FillFromScalar{.scalar = flat(scalar_ref),
                                             .y = rows(want),
                                             .factor = 0.25,
                                             .write = GradWrite::accumulate});
        run_on(kCuda, kernels::FillFromScalar{.scalar = flat(scalar),
                                              .y = rows(y.tensor()),
                                              .factor = 0.25,
                                              .write = GradWrite::accumulate});
        ASSERT_TRUE(all_close(y.values(), want.to_vector<double>(), f32_arithmetic(dtype, 1e-6)));
        run_on(kCuda, kernels::FillFromScalar{.scalar = flat(scalar),
                                              .y = rows(y.tensor()),
                                              .factor = 0.25,
                                              .write = GradWrite::overwrite});
        ASSERT_THAT(y.values(), ::testing::Each(0.375));
        ASSERT_TRUE(y.guards_intact());
      }
    }
  }
}

TEST_F(CudaCopy, ConvertsBetweenAllDTypes) {
  for (const DType from_dtype : kAllDTypes) {
    for (const DType to_dtype : kAllDTypes) {
      for (const std::int64_t count : {1, 7, 16, 1003}) {
        for (const std::int64_t shift : {0, 1}) {
          SCOPED_TRACE(cat(from_dtype, " to ", to_dtype, ", ", count, " from ", shift));
          const Tensor from = numbers(count + shift, from_dtype).slice(0, shift, count + shift);
          const Tensor got = full({count + shift}, 0.0, to_dtype, kCuda);
          const Tensor from_device =
              numbers(count + shift, from_dtype).to(kCuda).slice(0, shift, count + shift);
          const Tensor want = empty({count}, to_dtype);
          run_on(kCpu, copy_args(from, want, GradWrite::overwrite));
          run_on(kCuda,
                 copy_args(from_device, got.slice(0, shift, count + shift), GradWrite::overwrite));
          ASSERT_EQ(got.slice(0, shift, count + shift).to_vector<double>(),
                    want.to_vector<double>());
        }
      }
    }
  }
}

TEST_F(CudaCopy, RoundsToNearestEven) {
  const std::vector<double> values = {1.0 + 0x1p-8,  1.0 + 0x3p-8,  1.0 + 0x1p-11, 1.0 + 0x3p-11,
                                      -1.0 - 0x1p-8, 65520.0,       1e-8,          1e300,
                                      -0.0,          0x1.fffffep-1, 3e38,          0x1p-133};
  const auto count = static_cast<std::int64_t>(values.size());
  for (const DType from_dtype : {DType::f32, DType::f64}) {
    for (const DType to_dtype : {DType::f16, DType::bf16}) {
      const Tensor from = from_vector(values, {count}).to(from_dtype);
      const Tensor want = empty({count}, to_dtype), got = empty({count}, to_dtype, kCuda);
      run_on(kCpu, copy_args(from, want, GradWrite::overwrite));
      run_on(kCuda, copy_args(from.to(kCuda), got, GradWrite::overwrite));
      EXPECT_EQ(got.to_vector<double>(), want.to_vector<double>()) << from_dtype << to_dtype;
    }
  }
}

TEST_F(CudaCopy, AddsBetweenFloatDTypes) {
  Generator generator(11);
  for (const DType from_dtype : kFloats) {
    for (const DType to_dtype : kFloats) {
      for (const Layout layout : kLayouts) {
        SCOPED_TRACE(cat(from_dtype, " to ", to_dtype, ", shift ", layout.shift));
        const auto from = CudaTensor::normal({6, 37}, from_dtype, generator, 1.0, 0.0, layout);
        const auto to = CudaTensor::normal({6, 37}, to_dtype, generator, 1.0, 0.0, layout);
        const Tensor want = to.reference();
        run_on(kCpu, copy_args(from.reference(), want, GradWrite::accumulate));
        run_on(kCuda, copy_args(from.tensor(), to.tensor(), GradWrite::accumulate));
        ASSERT_TRUE(all_close(to.values(), want.to_vector<double>(),
                              f32_arithmetic(to_dtype, to_dtype == DType::f64 ? 0.0 : 1e-6,
                                             to_dtype == DType::f64 ? 0.0 : 2e-6)));
        ASSERT_TRUE(to.guards_intact());
      }
    }
  }
}

/// Both tensors have the dimensions of `extents` laid out in memory in the order of their own
/// permutation, with `pad` elements after the innermost one.
Tensor permuted(const std::vector<std::int64_t>& extents, const std::vector<int>& order,
                std::int64_t pad, DType dtype, bool counting) {
  Strides strides{};
  std::int64_t stride = 1;
  for (auto i = static_cast<int>(order.size()) - 1; i >= 0; --i) {
    const auto dim = static_cast<std::size_t>(order[static_cast<std::size_t>(i)]);
    strides[dim] = stride;
    stride *= extents[dim];
    if (i == static_cast<int>(order.size()) - 1) stride += pad;
  }
  std::vector<double> values(static_cast<std::size_t>(stride + pad), -1.0);
  if (counting) std::iota(values.begin(), values.end(), 0.0);
  const auto count = static_cast<std::int64_t>(values.size());
  const Tensor block = from_vector(values, {count}).to(dtype).to(kCuda);
  return {block.storage(), 0, Shape(std::span<const std::int64_t>(extents)), strides, dtype};
}

TEST_F(CudaCopy, HandlesEveryOrderOfStrides) {
  const std::vector<std::vector<std::int64_t>> shapes = {
      {3, 5, 4, 8}, {2, 1, 7, 3}, {1, 6, 2, 16}, {4, 3, 16, 24}};
  for (const auto& extents : shapes) {
    for (const std::int64_t pad : {0, 3, 8}) {
      std::vector<int> order = {0, 1, 2, 3};
      do {
        for (const bool reversed : {false, true}) {
          SCOPED_TRACE(cat("order ", order[0], order[1], order[2], order[3], ", pad ", pad));
          const std::vector<int> natural = {0, 1, 2, 3};
          const Tensor from = permuted(extents, reversed ? natural : order, pad, DType::f32, true);
          const Tensor to = permuted(extents, reversed ? order : natural, 0, DType::f32, false);
          run_on(kCuda, copy_args(from, to, GradWrite::overwrite));
          // The elements in the order of the indices, read from the whole block by their strides.
          const auto gather = [&](const Tensor& tensor) {
            const std::int64_t span =
                static_cast<std::int64_t>(tensor.storage()->bytes() / sizeof(float));
            const Tensor block(tensor.storage(), 0, {span}, {1}, DType::f32);
            const std::vector<double> all = block.to_vector<double>();
            std::vector<double> values;
            const Strides& s = tensor.strides();
            for (std::int64_t a = 0; a < extents[0]; ++a) {
              for (std::int64_t b = 0; b < extents[1]; ++b) {
                for (std::int64_t c = 0; c < extents[2]; ++c) {
                  for (std::int64_t d = 0; d < extents[3]; ++d) {
                    values.push_back(
                        all[static_cast<std::size_t>(a * s[0] + b * s[1] + c * s[2] + d * s[3])]);
                  }
                }
              }
            }
            return values;
          };
          ASSERT_EQ(gather(to), gather(from));
        }
      } while (std::next_permutation(order.begin(), order.end()));
    }
  }
}

TEST_F(CudaCopy, RepeatsABroadcastDimension) {
  const Tensor row = numbers(48, DType::bf16).to(kCuda);
  const Tensor from(row.storage(), 0, {5, 48}, {0, 1}, DType::bf16);
  const Tensor to = full({5, 48}, -1.0, DType::f32, kCuda);
  run_on(kCuda, copy_args(from, to, GradWrite::overwrite));
  const std::vector<double> want = row.to_vector<double>(), got = to.to_vector<double>();
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(got[i], want[i % 48]) << i;
}

TEST_F(CudaCopy, ReachesElementsBeyondTwoToThe31) {
  constexpr std::int64_t kCount = (std::int64_t{1} << 31) + 4099;
  const Tensor from = full({kCount}, 3.0, DType::u8, kCuda);
  const Tensor to = full({kCount}, 0.0, DType::u8, kCuda);
  from.slice(0, kCount - 3, kCount - 1).fill(7.0);
  run_on(kCuda, copy_args(from, to, GradWrite::overwrite));
  EXPECT_THAT(to.slice(0, kCount - 5, kCount).to_vector<int>(),
              ::testing::ElementsAre(3, 3, 7, 7, 3));
  const std::int64_t half = std::int64_t{1} << 31;
  EXPECT_THAT(to.slice(0, half - 2, half + 2).to_vector<int>(), ::testing::Each(3));
}

}  // namespace
}  // namespace lamina::testing
