// SPDX-License-Identifier: MIT
// Cross-entropy and its gradient on CUDA against the CPU kernels in f64.
#include "core/kernels/cross_entropy.h"

#include "tests/kernels/cuda_run.h"

#include <limits>

namespace lamina::testing {
namespace {

constexpr std::int32_t kIgnore = -100;

/// Operands of both kernels on one device.
struct Operands {
  Tensor logits, targets, losses, lse, loss, count, dloss;

  Operands(const Tensor& from_logits, const std::vector<std::int32_t>& from_targets)
      : logits(from_logits) {
    const Device device = logits.device();
    const auto row_count = static_cast<std::int64_t>(from_targets.size());
    const DType dtype = accumulation_dtype(logits.dtype());
    const double nan = std::numeric_limits<double>::quiet_NaN();
    targets = from_vector(from_targets, {row_count}, device);
    losses = full({row_count}, nan, dtype, device);
    lse = full({row_count}, nan, dtype, device);
    loss = full({1}, nan, dtype, device);
    count = full({1}, nan, dtype, device);
    dloss = full({1}, 0.75, dtype, device);
  }

  void forward(std::int64_t classes) const {
    run_on(logits.device(), kernels::CrossEntropy{.logits = rows(logits),
                                                  .targets = flat(targets),
                                                  .classes = classes,
                                                  .ignore_index = kIgnore,
                                                  .losses = flat(losses),
                                                  .lse = flat(lse),
                                                  .loss = flat(loss),
                                                  .count = flat(count),
                                                  .workspace = {}});
  }

  void backward(std::int64_t classes, const Tensor& dlogits, GradWrite write) const {
    run_on(logits.device(), kernels::CrossEntropyBackward{.logits = rows(logits),
                                                          .targets = flat(targets),
                                                          .classes = classes,
                                                          .ignore_index = kIgnore,
                                                          .lse = flat(lse),
                                                          .count = flat(count),
                                                          .dloss = flat(dloss),
                                                          .dlogits = rows(dlogits),
                                                          .write = write});
  }
};

class CudaCrossEntropy : public CudaTestWith<DType> {
 protected:
  Generator generator_{29};

  std::vector<std::int32_t> targets(std::int64_t row_count, std::int64_t classes) {
    const PhiloxKey key = generator_.next();
    std::vector<std::int32_t> values(static_cast<std::size_t>(row_count));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double number = uniform_at(key, i);
      values[i] =
          i % 5 == 3 ? kIgnore : static_cast<std::int32_t>(number * static_cast<double>(classes));
    }
    return values;
  }
};

TEST_P(CudaCrossEntropy, MatchesTheCpu) {
  for (const auto [rows, cols] : kExtents) {
    for (const Layout layout : kLayouts) {
      for (const std::int64_t classes : {cols, cols - cols / 7}) {
        for (const GradWrite write : kWrites) {
          SCOPED_TRACE(cat(rows, " x ", cols, ", classes ", classes, ", shift ", layout.shift));
          const auto logits =
              CudaTensor::normal({rows, cols}, GetParam(), generator_, 2.0, 0.0, layout);
          const auto dlogits = gradient_for(write, {rows, cols}, GetParam(), generator_, layout);
          const std::vector<std::int32_t> t = targets(rows, classes);
          const Operands want(logits.reference(), t), got(logits.tensor(), t);
          const Tensor want_dlogits = dlogits.reference();
          want.forward(classes);
          want.backward(classes, want_dlogits, write);
          got.forward(classes);
          got.backward(classes, dlogits.tensor(), write);
          // Log-sums of size 10 are kept in f32: 10 * 2^-24.
          const Tolerance close = f32_arithmetic(DType::f32, 4e-6);
          ASSERT_TRUE(
              all_close(got.losses.to_vector<double>(), want.losses.to_vector<double>(), close));
          ASSERT_TRUE(all_close(got.lse.to_vector<double>(), want.lse.to_vector<double>(), close));
          ASSERT_NEAR(got.loss.item<double>(), want.loss.item<double>(), 4e-6);
          ASSERT_EQ(got.count.item<double>(), want.count.item<double>());
          ASSERT_TRUE(all_close(dlogits.values(), want_dlogits.to_vector<double>(),
                                f32_arithmetic(GetParam(), 1e-6, 8e-6)));
          ASSERT_TRUE(dlogits.guards_intact());
        }
      }
    }
  }
}

TEST_P(CudaCrossEntropy, WritesTheGradientOverTheLogits) {
  for (const std::int64_t cols : {65, 1536}) {
    const auto logits = CudaTensor::normal({9, cols}, GetParam(), generator_);
    const std::vector<std::int32_t> t = targets(9, cols);
    const Operands want(logits.reference(), t), got(logits.tensor(), t);
    want.forward(cols);
    want.backward(cols, want.logits, GradWrite::overwrite);
    got.forward(cols);
    got.backward(cols, got.logits, GradWrite::overwrite);
    EXPECT_TRUE(all_close(logits.values(), want.logits.to_vector<double>(),
                          f32_arithmetic(GetParam(), 1e-6, 8e-6)));
    EXPECT_TRUE(logits.guards_intact());
  }
}

TEST_P(CudaCrossEntropy, IsZeroWhenEveryRowIsIgnored) {
  const auto logits = CudaTensor::normal({4, 24}, GetParam(), generator_);
  const auto dlogits = CudaTensor::poisoned({4, 24}, GetParam());
  const Operands got(logits.tensor(), std::vector<std::int32_t>(4, kIgnore));
  got.forward(24);
  got.backward(24, dlogits.tensor(), GradWrite::overwrite);
  EXPECT_EQ(got.loss.item<double>(), 0.0);
  EXPECT_EQ(got.count.item<double>(), 0.0);
  EXPECT_THAT(dlogits.values(), ::testing::Each(0.0));
}

TEST_P(CudaCrossEntropy, GivesNanForATargetThatIsNoClass) {
  for (const std::int32_t bad : {-1, 20, 1 << 30}) {
    const auto logits = CudaTensor::normal({3, 24}, GetParam(), generator_);
    const Operands got(logits.tensor(), {1, bad, 2});
    got.forward(20);
    const std::vector<double> losses = got.losses.to_vector<double>();
    EXPECT_FALSE(std::isnan(losses[0]));
    EXPECT_TRUE(std::isnan(losses[1]));
    EXPECT_TRUE(std::isnan(got.loss.item<double>()));
  }
}

TEST_P(CudaCrossEntropy, GivesTheSameBitsEveryTime) {
  const auto logits = CudaTensor::normal({3000, 65}, GetParam(), generator_);
  const Operands got(logits.tensor(), targets(3000, 65));
  expect_same_bits([&] {
    got.forward(65);
    return got.loss.to_vector<double>();
  });
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaCrossEntropy, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
