// SPDX-License-Identifier: MIT
// Softmax and its gradient on CUDA against the CPU kernels in f64.
#include "core/kernels/softmax.h"

#include "tests/kernels/cuda_run.h"

namespace lamina::testing {
namespace {

class CudaSoftmax : public CudaTestWith<DType> {
 protected:
  Generator generator_{23};
};

/// A product of a few f32 factors: the exponent's rounding (up to 20 * 2^-24) leads.
Tolerance tolerance(DType dtype) {
  return f32_arithmetic(dtype, 1e-8, 6e-6);
}

TEST_P(CudaSoftmax, NormalisesRows) {
  for (const auto [rows, cols] : kExtents) {
    for (const Layout layout : kLayouts) {
      for (const std::int64_t period : {0, 1, 3, 2000}) {
        SCOPED_TRACE(cat(rows, " x ", cols, ", period ", period, ", shift ", layout.shift));
        const auto x = CudaTensor::normal({rows, cols}, GetParam(), generator_, 3.0, 5.0, layout);
        const auto y = CudaTensor::poisoned({rows, cols}, GetParam(), layout);
        const Tensor want = y.reference(), x_ref = x.reference();
        run_on(kCpu, kernels::Softmax{
                         .x = lamina::rows(x_ref), .y = lamina::rows(want), .period = period});
        run_on(kCuda,
               kernels::Softmax{
                   .x = lamina::rows(x.tensor()), .y = lamina::rows(y.tensor()), .period = period});
        ASSERT_TRUE(all_close(y.values(), want.to_vector<double>(), tolerance(GetParam())));
        ASSERT_TRUE(y.guards_intact());
      }
    }
  }
}

TEST_P(CudaSoftmax, NormalisesASquareCausalMatrixInPlace) {
  for (const std::int64_t size : {1, 33, 256, 1100}) {
    const auto x = CudaTensor::normal({2 * size, size}, GetParam(), generator_);
    const Tensor want = x.reference();
    run_on(kCpu, kernels::Softmax{.x = rows(want), .y = rows(want), .period = size});
    run_on(kCuda, kernels::Softmax{.x = rows(x.tensor()), .y = rows(x.tensor()), .period = size});
    ASSERT_TRUE(all_close(x.values(), want.to_vector<double>(), tolerance(GetParam())));
    ASSERT_TRUE(x.guards_intact());
  }
}

TEST_P(CudaSoftmax, KeepsLargeAndMaskedLogitsFinite) {
  const double minus_infinity = -std::numeric_limits<double>::infinity();
  for (const std::int64_t cols : {40, 1500}) {
    std::vector<double> logits(static_cast<std::size_t>(2 * cols), minus_infinity);
    logits[3] = 30000.0;
    logits[static_cast<std::size_t>(cols) - 1] = 30000.0;
    logits[static_cast<std::size_t>(cols) + 1] = -30000.0;
    const CudaTensor x(logits, {2, cols}, GetParam());
    const auto y = CudaTensor::poisoned({2, cols}, GetParam());
    run_on(kCuda, kernels::Softmax{.x = rows(x.tensor()), .y = rows(y.tensor())});
    std::vector<double> want(static_cast<std::size_t>(2 * cols), 0.0);
    want[3] = want[static_cast<std::size_t>(cols) - 1] = 0.5;
    want[static_cast<std::size_t>(cols) + 1] = 1.0;
    EXPECT_TRUE(all_close(y.values(), want, tolerance(GetParam())));
  }
}

TEST_P(CudaSoftmax, PropagatesGradients) {
  for (const auto [rows, cols] : kExtents) {
    for (const Layout layout : kLayouts) {
      for (const GradWrite write : kWrites) {
        SCOPED_TRACE(cat(rows, " x ", cols, ", shift ", layout.shift));
        const auto x = CudaTensor::normal({rows, cols}, GetParam(), generator_, 2.0, 0.0, layout);
        const auto dy = CudaTensor::normal({rows, cols}, GetParam(), generator_, 1.0, 0.0, layout);
        const auto dx = gradient_for(write, {rows, cols}, GetParam(), generator_, layout);
        run_on(kCuda,
               kernels::Softmax{.x = lamina::rows(x.tensor()), .y = lamina::rows(x.tensor())});
        const Tensor want = dx.reference(), y_ref = x.reference(), dy_ref = dy.reference();
        run_on(kCpu, kernels::SoftmaxBackward{.y = lamina::rows(y_ref),
                                              .dy = lamina::rows(dy_ref),
                                              .dx = lamina::rows(want),
                                              .write = write});
        run_on(kCuda, kernels::SoftmaxBackward{.y = lamina::rows(x.tensor()),
                                               .dy = lamina::rows(dy.tensor()),
                                               .dx = lamina::rows(dx.tensor()),
                                               .write = write});
        ASSERT_TRUE(all_close(dx.values(), want.to_vector<double>(),
                              f32_arithmetic(GetParam(), 2e-6, 4e-6)));
        ASSERT_TRUE(dx.guards_intact());
      }
    }
  }
}

TEST_P(CudaSoftmax, PropagatesGradientsInPlace) {
  const auto y = CudaTensor::normal({7, 300}, GetParam(), generator_);
  const auto dy = CudaTensor::normal({7, 300}, GetParam(), generator_);
  run_on(kCuda, kernels::Softmax{.x = rows(y.tensor()), .y = rows(y.tensor()), .period = 7});
  const Tensor want = dy.reference(), y_ref = y.reference();
  run_on(kCpu,
         kernels::SoftmaxBackward{
             .y = rows(y_ref), .dy = rows(want), .dx = rows(want), .write = GradWrite::overwrite});
  run_on(kCuda, kernels::SoftmaxBackward{.y = rows(y.tensor()),
                                         .dy = rows(dy.tensor()),
                                         .dx = rows(dy.tensor()),
                                         .write = GradWrite::overwrite});
  EXPECT_TRUE(
      all_close(dy.values(), want.to_vector<double>(), f32_arithmetic(GetParam(), 2e-6, 4e-6)));
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaSoftmax, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
