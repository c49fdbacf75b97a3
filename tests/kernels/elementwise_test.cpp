// SPDX-License-Identifier: MIT
// Add, Mul, Scale, the activations and Dropout on CUDA against the CPU kernels in f64.
#include "core/kernels/elementwise.h"

#include "core/kernels/dropout.h"
#include "tests/kernels/cuda_run.h"

#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

namespace lamina::testing {
namespace {

constexpr kernels::ActivationKind kKinds[] = {
    kernels::ActivationKind::relu, kernels::ActivationKind::gelu_tanh,
    kernels::ActivationKind::gelu_erf, kernels::ActivationKind::silu};

/// The column sum of the CPU kernel against sums of the gradients that it writes without one.
template <class T>
void check_column_sum_on_cpu(DType dtype, Extent extent, GradWrite write, GradWrite sum_write) {
  const auto [rows, cols] = extent;
  Generator generator(5);
  const auto normal = [&](const Shape& shape) {
    return from_vector(normal_values(shape.elements(), generator), shape).to(dtype);
  };
  const Tensor x = normal({rows, cols}), dy = normal({rows, cols}), start = normal({rows, cols});
  const Tensor dx = start.clone(), alone = zeros({rows, cols}, dtype), sum = normal({cols});
  std::vector<double> want = sum_write == GradWrite::accumulate
                                 ? sum.template to_vector<double>()
                                 : std::vector<double>(static_cast<std::size_t>(cols));
  kernels::ActivationBackward args{.x = lamina::rows(x),
                                   .dy = lamina::rows(dy),
                                   .dx = lamina::rows(alone),
                                   .kind = kernels::ActivationKind::gelu_tanh,
                                   .write = GradWrite::overwrite};
  run_on(kCpu, args);
  const auto terms = alone.to_vector<double>();
  for (std::size_t i = 0; i < terms.size(); ++i)
    want[i % static_cast<std::size_t>(cols)] += terms[i];
  args.dx = lamina::rows(dx);
  args.write = write;
  args.column_sum = flat(sum);
  args.column_sum_write = sum_write;
  run_on(kCpu, args);
  const double rounding = std::numeric_limits<T>::epsilon();  // of terms of about one
  EXPECT_TRUE(all_close(sum.to_vector<double>(), want,
                        {.dtype = dtype,
                         .ulps = 1.0,
                         .absolute = static_cast<double>(rows) * rounding,
                         .relative = 0.0}));
  const auto before = start.to_vector<double>(), after = dx.to_vector<double>();
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const double expected = terms[i] + (write == GradWrite::accumulate ? before[i] : 0.0);
    ASSERT_NEAR(after[i], expected, 8.0 * rounding);
  }
}

TEST(CpuElementwise, SumsColumnsOfGradientsOfActivations) {
  for (const Extent extent : {Extent{1, 1}, Extent{6, 33}, Extent{1, 300}, Extent{900, 40}}) {
    for (const GradWrite write : kWrites) {
      for (const GradWrite sum_write : kWrites) {
        SCOPED_TRACE(cat(extent.rows, " x ", extent.cols));
        check_column_sum_on_cpu<double>(DType::f64, extent, write, sum_write);
        check_column_sum_on_cpu<float>(DType::f32, extent, write, sum_write);
      }
    }
  }
}

class CudaElementwise : public CudaTestWith<DType> {
 protected:
  Generator generator_{17};
};

template <class Args>
void check_binary(DType dtype, DType b_dtype, Generator& generator) {
  for (const auto [rows, cols] : kExtents) {
    for (const Layout layout : kLayouts) {
      for (const std::int64_t b_rows : {std::int64_t{1}, rows % 2 == 0 ? rows / 2 : rows, rows}) {
        for (const GradWrite write : kWrites) {
          SCOPED_TRACE(cat(rows, " x ", cols, ", b ", b_rows, ", shift ", layout.shift));
          const auto a = CudaTensor::normal({rows, cols}, dtype, generator, 1.0, 0.0, layout);
          const auto b = CudaTensor::normal({b_rows, cols}, b_dtype, generator, 1.0, 0.0, layout);
          const auto y = gradient_for(write, {rows, cols}, dtype, generator, layout);
          const Tensor want = y.reference(), a_ref = a.reference(), b_ref = b.reference();
          run_on(kCpu, Args{.a = lamina::rows(a_ref),
                            .b = lamina::rows(b_ref),
                            .y = lamina::rows(want),
                            .write = write});
          run_on(kCuda, Args{.a = lamina::rows(a.tensor()),
                             .b = lamina::rows(b.tensor()),
                             .y = lamina::rows(y.tensor()),
                             .write = write});
          ASSERT_TRUE(all_close(y.values(), want.to_vector<double>(), f32_arithmetic(dtype, 1e-6)));
          ASSERT_TRUE(y.guards_intact());
        }
      }
    }
  }
}

TEST_P(CudaElementwise, AddsRepeatedRows) {
  check_binary<kernels::Add>(GetParam(), GetParam(), generator_);
}

TEST_P(CudaElementwise, AddsRowsOfF32) {
  check_binary<kernels::Add>(GetParam(), DType::f32, generator_);
}

TEST_P(CudaElementwise, MultipliesByRepeatedRows) {
  check_binary<kernels::Mul>(GetParam(), GetParam(), generator_);
}

TEST_P(CudaElementwise, MultipliesByRowsOfF32) {
  check_binary<kernels::Mul>(GetParam(), DType::f32, generator_);
}

TEST_P(CudaElementwise, AddsInPlace) {
  const auto a = CudaTensor::normal({5, 39}, GetParam(), generator_);
  const auto b = CudaTensor::normal({1, 39}, GetParam(), generator_);
  const Tensor want = a.reference(), b_ref = b.reference();
  run_on(kCpu, kernels::Add{.a = rows(want), .b = rows(b_ref), .y = rows(want)});
  run_on(kCuda, kernels::Add{.a = rows(a.tensor()), .b = rows(b.tensor()), .y = rows(a.tensor())});
  EXPECT_TRUE(all_close(a.values(), want.to_vector<double>(), f32_arithmetic(GetParam())));
}

TEST_P(CudaElementwise, WritesNothingWhenSkipped) {
  const auto a = CudaTensor::normal({3, 16}, GetParam(), generator_);
  const auto y = CudaTensor::normal({3, 16}, GetParam(), generator_);
  const std::vector<double> before = y.values();
  const Rows from = rows(a.tensor()), to = rows(y.tensor());
  run_on(kCuda, kernels::Add{.a = from, .b = from, .y = to, .write = GradWrite::skip});
  run_on(kCuda, kernels::Scale{.x = from, .y = to, .factor = 2.0, .write = GradWrite::skip});
  run_on(kCuda, kernels::ActivationBackward{.x = from,
                                            .dy = from,
                                            .dx = to,
                                            .kind = kernels::ActivationKind::silu,
                                            .write = GradWrite::skip});
  EXPECT_EQ(y.values(), before);
}

TEST_P(CudaElementwise, AcceptsEmptyRows) {
  const Tensor x = empty({0, 16}, GetParam(), kCuda);
  run_on(kCuda, kernels::Add{.a = rows(x), .b = rows(x), .y = rows(x)});
  run_on(kCuda, kernels::Scale{.x = rows(x), .y = rows(x), .factor = 2.0});
  EXPECT_EQ(x.to_vector<float>().size(), 0U);
}

TEST_P(CudaElementwise, ScalesIntoEveryDType) {
  for (const DType to : {DType::f32, DType::f16, DType::bf16}) {
    for (const auto [rows, cols] : kExtents) {
      for (const Layout layout : kLayouts) {
        for (const GradWrite write : kWrites) {
          SCOPED_TRACE(cat(rows, " x ", cols, " to ", to, ", shift ", layout.shift));
          const auto x = CudaTensor::normal({rows, cols}, GetParam(), generator_, 1.0, 0.0, layout);
          const auto y = gradient_for(write, {rows, cols}, to, generator_, layout);
          const Tensor want = y.reference(), x_ref = x.reference();
          run_on(kCpu, kernels::Scale{.x = lamina::rows(x_ref),
                                      .y = lamina::rows(want),
                                      .factor = -0.375,
                                      .write = write});
          run_on(kCuda, kernels::Scale{.x = lamina::rows(x.tensor()),
                                       .y = lamina::rows(y.tensor()),
                                       .factor = -0.375,
                                       .write = write});
          ASSERT_TRUE(all_close(y.values(), want.to_vector<double>(), f32_arithmetic(to, 1e-6)));
          ASSERT_TRUE(y.guards_intact());
        }
      }
    }
  }
}

TEST_P(CudaElementwise, ComputesActivations) {
  for (const auto kind : kKinds) {
    for (const auto [rows, cols] : kExtents) {
      for (const Layout layout : kLayouts) {
        SCOPED_TRACE(cat(rows, " x ", cols, ", kind ", static_cast<int>(kind)));
        const auto x = CudaTensor::normal({rows, cols}, GetParam(), generator_, 2.0, 0.0, layout);
        const auto y = CudaTensor::poisoned({rows, cols}, GetParam(), layout);
        const Tensor want = y.reference(), x_ref = x.reference();
        run_on(kCpu, kernels::Activation{
                         .x = lamina::rows(x_ref), .y = lamina::rows(want), .kind = kind});
        run_on(kCuda,
               kernels::Activation{
                   .x = lamina::rows(x.tensor()), .y = lamina::rows(y.tensor()), .kind = kind});
        // The argument of the exponential reaches 50: its rounding error is 50 * 2^-24 of the
        // result.
        ASSERT_TRUE(all_close(y.values(), want.to_vector<double>(),
                              f32_arithmetic(GetParam(), 1e-8, 8e-6)));
        ASSERT_TRUE(y.guards_intact());
      }
    }
  }
}

TEST_P(CudaElementwise, ComputesGradientsOfActivations) {
  for (const auto kind : kKinds) {
    for (const auto [rows, cols] : kExtents) {
      for (const Layout layout : kLayouts) {
        for (const GradWrite write : kWrites) {
          SCOPED_TRACE(cat(rows, " x ", cols, ", kind ", static_cast<int>(kind)));
          const auto x = CudaTensor::normal({rows, cols}, GetParam(), generator_, 2.0, 0.0, layout);
          const auto dy =
              CudaTensor::normal({rows, cols}, GetParam(), generator_, 1.0, 0.0, layout);
          const auto dx = gradient_for(write, {rows, cols}, GetParam(), generator_, layout);
          const Tensor want = dx.reference(), x_ref = x.reference(), dy_ref = dy.reference();
          run_on(kCpu, kernels::ActivationBackward{.x = lamina::rows(x_ref),
                                                   .dy = lamina::rows(dy_ref),
                                                   .dx = lamina::rows(want),
                                                   .kind = kind,
                                                   .write = write});
          run_on(kCuda, kernels::ActivationBackward{.x = lamina::rows(x.tensor()),
                                                    .dy = lamina::rows(dy.tensor()),
                                                    .dx = lamina::rows(dx.tensor()),
                                                    .kind = kind,
                                                    .write = write});
          // Terms of up to 16 cancel: slope * dy and the gradient it is added to.
          ASSERT_TRUE(all_close(dx.values(), want.to_vector<double>(),
                                f32_arithmetic(GetParam(), 1e-5, 8e-6)));
          ASSERT_TRUE(dx.guards_intact());
        }
      }
    }
  }
}

struct ColumnSumCase {
  Extent extent;
  Layout layout;
  kernels::ActivationKind kind;
  GradWrite write, sum_write;
};

/// Every extent and layout, and rows enough for several blocks to share a column.
std::vector<ColumnSumCase> column_sum_cases() {
  std::vector<Extent> extents(std::begin(kExtents), std::end(kExtents));
  extents.insert(extents.end(), {{1000, 8}, {777, 300}, {130, 1}, {4100, 264}});
  std::vector<ColumnSumCase> cases;
  for (const Extent extent : extents) {
    for (const Layout layout : kLayouts) {
      for (const GradWrite write : kWrites) {
        for (const GradWrite sum_write : kWrites) {
          const auto kind = kKinds[cases.size() % std::size(kKinds)];
          cases.push_back({extent, layout, kind, write, sum_write});
        }
      }
    }
  }
  return cases;
}

TEST_P(CudaElementwise, SumsColumnsOfGradientsOfActivations) {
  for (const auto& [extent, layout, kind, write, sum_write] : column_sum_cases()) {
    const auto [rows, cols] = extent;
    SCOPED_TRACE(cat(rows, " x ", cols, ", shift ", layout.shift, ", pad ", layout.pad, ", kind ",
                     static_cast<int>(kind)));
    const auto x = CudaTensor::normal({rows, cols}, GetParam(), generator_, 2.0, 0.0, layout);
    const auto dy = CudaTensor::normal({rows, cols}, GetParam(), generator_, 1.0, 0.0, layout);
    const auto dx = gradient_for(write, {rows, cols}, GetParam(), generator_, layout);
    const auto sum =
        gradient_for(sum_write, {cols}, DType::f32, generator_, {.shift = layout.shift});
    const Tensor want = dx.reference(), want_sum = sum.reference();
    const Tensor x_ref = x.reference(), dy_ref = dy.reference();
    run_on(kCpu, kernels::ActivationBackward{.x = lamina::rows(x_ref),
                                             .dy = lamina::rows(dy_ref),
                                             .dx = lamina::rows(want),
                                             .kind = kind,
                                             .write = write,
                                             .column_sum = flat(want_sum),
                                             .column_sum_write = sum_write});
    run_on(kCuda, kernels::ActivationBackward{.x = lamina::rows(x.tensor()),
                                              .dy = lamina::rows(dy.tensor()),
                                              .dx = lamina::rows(dx.tensor()),
                                              .kind = kind,
                                              .write = write,
                                              .column_sum = flat(sum.tensor()),
                                              .column_sum_write = sum_write});
    ASSERT_TRUE(
        all_close(dx.values(), want.to_vector<double>(), f32_arithmetic(GetParam(), 1e-5, 8e-6)));
    // Terms of up to 16, each with its own error, of either sign.
    const double absolute = 1e-5 * std::sqrt(static_cast<double>(rows));
    ASSERT_TRUE(all_close(sum.values(), want_sum.to_vector<double>(),
                          f32_arithmetic(DType::f32, absolute, 8e-6)));
    ASSERT_TRUE(dx.guards_intact());
    ASSERT_TRUE(sum.guards_intact());
  }
}

TEST_P(CudaElementwise, SumsColumnsOfGradientsTheSameEachTime) {
  const auto x = CudaTensor::normal({3000, 72}, GetParam(), generator_);
  const auto dy = CudaTensor::normal({3000, 72}, GetParam(), generator_);
  expect_same_bits([&] {
    const auto dx = CudaTensor::poisoned({3000, 72}, GetParam());
    const auto sum = CudaTensor::poisoned({72}, DType::f32);
    run_on(kCuda, kernels::ActivationBackward{.x = rows(x.tensor()),
                                              .dy = rows(dy.tensor()),
                                              .dx = rows(dx.tensor()),
                                              .kind = kernels::ActivationKind::gelu_tanh,
                                              .write = GradWrite::overwrite,
                                              .column_sum = flat(sum.tensor())});
    return sum.values();
  });
}

TEST_P(CudaElementwise, DropsTheSameElementsAsTheCpu) {
  for (const auto [rows, cols] : kExtents) {
    for (const Layout layout : kLayouts) {
      for (const GradWrite write : kWrites) {
        SCOPED_TRACE(cat(rows, " x ", cols, ", shift ", layout.shift, ", pad ", layout.pad));
        const PhiloxKey key = generator_.next();
        const auto x = CudaTensor::normal({rows, cols}, GetParam(), generator_, 1.0, 0.0, layout);
        const auto y = gradient_for(write, {rows, cols}, GetParam(), generator_, layout);
        const Tensor want = y.reference(), x_ref = x.reference();
        run_on(kCpu, kernels::Dropout{.x = lamina::rows(x_ref),
                                      .y = lamina::rows(want),
                                      .p = 0.3F,
                                      .key = key,
                                      .write = write});
        run_on(kCuda, kernels::Dropout{.x = lamina::rows(x.tensor()),
                                       .y = lamina::rows(y.tensor()),
                                       .p = 0.3F,
                                       .key = key,
                                       .write = write});
        ASSERT_TRUE(
            all_close(y.values(), want.to_vector<double>(), f32_arithmetic(GetParam(), 1e-6)));
        ASSERT_TRUE(y.guards_intact());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaElementwise, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
