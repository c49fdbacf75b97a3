// SPDX-License-Identifier: MIT
// Add, Mul, Scale, the activations and Dropout on CUDA against the CPU kernels in f64.
#include "core/kernels/elementwise.h"

#include "core/kernels/dropout.h"
#include "tests/kernels/cuda_run.h"

namespace lamina::testing {
namespace {

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

constexpr kernels::ActivationKind kKinds[] = {
    kernels::ActivationKind::relu, kernels::ActivationKind::gelu_tanh,
    kernels::ActivationKind::gelu_erf, kernels::ActivationKind::silu};

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
