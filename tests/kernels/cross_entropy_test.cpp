// SPDX-License-Identifier: MIT
// Cross-entropy and its gradient on CUDA against the CPU kernels in f64.
#include "core/kernels/cross_entropy.h"

#include "tests/kernels/cuda_run.h"

#include <algorithm>
#include <limits>

namespace lamina::testing {
namespace {

constexpr std::int32_t kIgnore = -100;

/// LossOperands of both kernels on one device.
struct LossOperands {
  Tensor logits, targets, losses, lse, loss, count, dloss;

  LossOperands(const Tensor& from_logits, const std::vector<std::int32_t>& from_targets)
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

  /// With a gradient if there is a tensor for it.
  void forward(std::int64_t classes, const Tensor& dlogits = {}) const {
    run_on(logits.device(), kernels::CrossEntropy{.logits = rows(logits),
                                                  .targets = flat(targets),
                                                  .classes = classes,
                                                  .ignore_index = kIgnore,
                                                  .losses = flat(losses),
                                                  .lse = flat(lse),
                                                  .loss = flat(loss),
                                                  .count = flat(count),
                                                  .dlogits = dlogits ? rows(dlogits) : Rows{}});
  }

  /// Of rows first ... end - 1, as a part: the gradient of the sum goes over the logits.
  void forward_part(std::int64_t classes, std::int64_t first, std::int64_t end) const {
    const Tensor part = logits.slice(0, first, end);
    run_on(logits.device(), kernels::CrossEntropy{.logits = rows(part),
                                                  .targets = flat(targets.slice(0, first, end)),
                                                  .classes = classes,
                                                  .ignore_index = kIgnore,
                                                  .losses = flat(losses.slice(0, first, end)),
                                                  .lse = flat(lse.slice(0, first, end)),
                                                  .loss = {},
                                                  .count = {},
                                                  .dlogits = rows(part)});
  }

  void mean() const {
    run_on(logits.device(), kernels::CrossEntropyMean{.losses = flat(losses),
                                                      .targets = flat(targets),
                                                      .ignore_index = kIgnore,
                                                      .loss = flat(loss),
                                                      .count = flat(count)});
  }

  /// What a backward pass makes of the gradient that forward() wrote, or forward_part().
  void scale(const Tensor& dlogits, bool by_count = false) const {
    run_on(logits.device(), kernels::CrossEntropyScale{.dloss = flat(dloss),
                                                       .count = by_count ? flat(count) : Flat{},
                                                       .gradient = rows(dlogits)});
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

void expect_results(const LossOperands& got, const LossOperands& want) {
  // Log-sums of size 10 are kept in f32: 10 * 2^-24.
  const Tolerance close = f32_arithmetic(DType::f32, 4e-6);
  ASSERT_TRUE(all_close(got.losses.to_vector<double>(), want.losses.to_vector<double>(), close));
  ASSERT_TRUE(all_close(got.lse.to_vector<double>(), want.lse.to_vector<double>(), close));
  ASSERT_NEAR(got.loss.item<double>(), want.loss.item<double>(), 4e-6);
  ASSERT_EQ(got.count.item<double>(), want.count.item<double>());
}

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
          const LossOperands want(logits.reference(), t), got(logits.tensor(), t);
          const Tensor want_dlogits = dlogits.reference();
          want.forward(classes);
          want.backward(classes, want_dlogits, write);
          got.forward(classes);
          got.backward(classes, dlogits.tensor(), write);
          ASSERT_NO_FATAL_FAILURE(expect_results(got, want));
          ASSERT_TRUE(all_close(dlogits.values(), want_dlogits.to_vector<double>(),
                                f32_arithmetic(GetParam(), 1e-6, 8e-6)));
          ASSERT_TRUE(dlogits.guards_intact());
        }
      }
    }
  }
}

// Rows that a second pass reads again, and those that wait for it in shared memory, from 48 KiB on:
// some with three rows for each block, a width that is no multiple of a vector, or more than shared
// memory holds.
constexpr Extent kGradientExtents[] = {
    {1, 1},       {6, 33},    {12, 130},  {6, 1030},  {3, 4095},    {2, 8200},   {3, 8201},
    {300, 20480}, {6, 28000}, {3, 50304}, {2, 50257}, {280, 50304}, {2, 128'256}};

TEST_P(CudaCrossEntropy, WritesTheGradientInTheForwardPass) {
  for (const auto [rows, cols] : kGradientExtents) {
    for (const Layout layout : {Layout{0, 0}, Layout{0, 16}, Layout{3, 5}}) {
      if (rows * cols > 1'000'000 && layout.shift + layout.pad > 0) continue;
      for (const bool in_place : {false, true}) {
        const bool has_padding = !in_place || rows % 2 == 0;
        const std::int64_t classes = cols - (has_padding ? cols / 1000 + cols / 7 % 50 : 0);
        SCOPED_TRACE(cat(rows, " x ", cols, ", classes ", classes, ", shift ", layout.shift,
                         ", in place ", in_place));
        const auto logits =
            CudaTensor::normal({rows, cols}, GetParam(), generator_, 2.0, 0.0, layout);
        const auto other =
            in_place ? CudaTensor() : CudaTensor::poisoned({rows, cols}, GetParam(), layout);
        const CudaTensor& dlogits = in_place ? logits : other;
        const std::vector<std::int32_t> t = targets(rows, classes);
        const LossOperands want(logits.reference(), t), got(logits.tensor(), t);
        const std::vector<double> before = logits.values();
        const Tensor want_dlogits = want.logits.clone();
        want.forward(classes, want_dlogits);
        got.forward(classes, dlogits.tensor());
        ASSERT_NO_FATAL_FAILURE(expect_results(got, want));
        const std::vector<double> found = dlogits.values();
        const double used = std::max(1.0, want.count.item<double>());
        ASSERT_TRUE(all_close(found, want_dlogits.to_vector<double>(),
                              f32_arithmetic(GetParam(), 1e-6 / used, 8e-6)));
        for (std::int64_t i = 0; i < rows * cols; ++i) {
          if (i % cols < classes) continue;
          ASSERT_EQ(found[static_cast<std::size_t>(i)], 0.0);
        }
        ASSERT_TRUE(dlogits.guards_intact());
        ASSERT_TRUE(in_place || logits.values() == before);
      }
    }
  }
}

TEST_P(CudaCrossEntropy, ScalesTheGradientUnlessTheFactorIsOne) {
  for (const auto [rows, cols] : kExtents) {
    for (const Layout layout : kLayouts) {
      SCOPED_TRACE(cat(rows, " x ", cols, ", shift ", layout.shift, ", pad ", layout.pad));
      const auto dlogits =
          CudaTensor::normal({rows, cols}, GetParam(), generator_, 1.0, 0.0, layout);
      const LossOperands got(dlogits.tensor(), std::vector<std::int32_t>(1, 0));
      const std::vector<double> before = dlogits.values();
      got.dloss.copy_from(full({1}, 1.0));
      got.scale(dlogits.tensor());
      ASSERT_EQ(dlogits.values(), before);
      got.dloss.copy_from(full({1}, 0.75));
      const LossOperands want(dlogits.reference(), std::vector<std::int32_t>(1, 0));
      want.scale(want.logits);
      got.scale(dlogits.tensor());
      ASSERT_TRUE(
          all_close(dlogits.values(), want.logits.to_vector<double>(), f32_arithmetic(GetParam())));
      ASSERT_TRUE(dlogits.guards_intact());
    }
  }
}

TEST_P(CudaCrossEntropy, TakesRowsInParts) {
  for (const auto [rows, cols] : {Extent{7, 33}, {6, 1030}, {5, 28000}, {300, 20480}}) {
    for (const Layout layout : {Layout{0, 0}, Layout{3, 5}}) {
      if (rows * cols > 1'000'000 && layout.shift > 0) continue;
      SCOPED_TRACE(cat(rows, " x ", cols, ", shift ", layout.shift));
      const auto logits =
          CudaTensor::normal({rows, cols}, GetParam(), generator_, 2.0, 0.0, layout);
      const std::int64_t classes = cols - 3;
      const std::vector<std::int32_t> t = targets(rows, classes);
      const LossOperands want(logits.reference(), t), got(logits.tensor(), t);
      for (const LossOperands* operands : {&want, &got}) {
        operands->forward_part(classes, 0, rows / 2);
        operands->forward_part(classes, rows / 2, rows);
        operands->mean();
      }
      ASSERT_NO_FATAL_FAILURE(expect_results(got, want));
      ASSERT_TRUE(all_close(logits.values(), want.logits.to_vector<double>(),
                            f32_arithmetic(GetParam(), 1e-6, 8e-6)));
      const Tensor scaled = logits.reference();  // what the device has rounded once
      want.scale(scaled, true);
      got.scale(logits.tensor(), true);
      ASSERT_TRUE(
          all_close(logits.values(), scaled.to_vector<double>(), f32_arithmetic(GetParam())));
      ASSERT_TRUE(logits.guards_intact());
    }
  }
}

TEST_P(CudaCrossEntropy, WritesTheGradientOverTheLogits) {
  for (const std::int64_t cols : {65, 1536}) {
    const auto logits = CudaTensor::normal({9, cols}, GetParam(), generator_);
    const std::vector<std::int32_t> t = targets(9, cols);
    const LossOperands want(logits.reference(), t), got(logits.tensor(), t);
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
  const LossOperands got(logits.tensor(), std::vector<std::int32_t>(4, kIgnore));
  got.forward(24);
  got.backward(24, dlogits.tensor(), GradWrite::overwrite);
  EXPECT_EQ(got.loss.item<double>(), 0.0);
  EXPECT_EQ(got.count.item<double>(), 0.0);
  EXPECT_THAT(dlogits.values(), ::testing::Each(0.0));
  got.scale(logits.tensor(), true);
  EXPECT_THAT(logits.values(), ::testing::Each(0.0));
  for (const std::int64_t cols : {24, 20480, 50304}) {
    const auto given_up = CudaTensor::normal({4, cols}, GetParam(), generator_);
    const LossOperands once(given_up.tensor(), std::vector<std::int32_t>(4, kIgnore));
    once.forward(cols, once.logits);
    EXPECT_EQ(once.loss.item<double>(), 0.0);
    EXPECT_THAT(given_up.values(), ::testing::Each(0.0));
  }
}

TEST_P(CudaCrossEntropy, GivesNanForATargetThatIsNoClass) {
  for (const std::int32_t bad : {-1, 20, 1 << 30}) {
    const auto logits = CudaTensor::normal({3, 24}, GetParam(), generator_);
    const LossOperands got(logits.tensor(), {1, bad, 2});
    got.forward(20);
    const std::vector<double> losses = got.losses.to_vector<double>();
    EXPECT_FALSE(std::isnan(losses[0]));
    EXPECT_TRUE(std::isnan(losses[1]));
    EXPECT_TRUE(std::isnan(got.loss.item<double>()));
  }
  for (const std::int64_t cols : {24, 20480, 50304}) {
    const auto logits = CudaTensor::normal({2, cols}, GetParam(), generator_);
    const LossOperands got(logits.tensor(), {static_cast<std::int32_t>(cols) - 1, 1});
    got.forward(cols - 8, got.logits);
    const std::vector<double> values = logits.values();
    const auto at = [&](std::int64_t row, std::int64_t col) {
      return values[static_cast<std::size_t>(row * cols + col)];
    };
    EXPECT_TRUE(std::isnan(at(0, 0)) && std::isnan(at(0, cols - 9)));
    EXPECT_EQ(at(0, cols - 8), 0.0);
    EXPECT_FALSE(std::isnan(at(1, 0)) || std::isnan(at(1, cols - 9)));
  }
}

TEST_P(CudaCrossEntropy, GivesTheSameBitsEveryTime) {
  const auto logits = CudaTensor::normal({3000, 65}, GetParam(), generator_);
  const LossOperands got(logits.tensor(), targets(3000, 65));
  expect_same_bits([&] {
    got.forward(65);
    return got.loss.to_vector<double>();
  });
  for (const std::int64_t cols : {65, 20480, 50304}) {
    const auto source = CudaTensor::normal({150, cols}, GetParam(), generator_);
    const std::vector<std::int32_t> t = targets(150, cols);
    expect_same_bits([&] {
      const LossOperands once(source.tensor().clone(), t);
      once.forward(cols, once.logits);
      return once.logits.to_vector<double>();
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaCrossEntropy, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
