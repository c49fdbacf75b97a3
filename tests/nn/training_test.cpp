// SPDX-License-Identifier: MIT
// A whole training loop through the layer API: it learns, takes no new device memory after its
// first steps, and gives the same bits again.
#include "core/storage.h"
#include "examples/gpt/model.h"
#include "tests/support/cuda_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

namespace lamina {
namespace {

constexpr gpt::GptConfig kTiny{
    .layers = 2, .heads = 2, .width = 32, .context = 16, .vocab = 19, .dropout = 0.1};

// Trains the tiny model on one repeated batch; returns the losses.
class Run {
 public:
  Run(Device device, DType dtype, const kernels::LossScale& loss_scale = {}) : device_(device) {
    seed(9);
    model_ = std::make_unique<gpt::Gpt>(kTiny);
    model_->to(device, dtype);
    optimizer_ = std::make_unique<nn::AdamW>(
        model_->parameters(),
        nn::AdamWOptions{
            .schedule = nn::schedule::constant(3e-3F), .max_norm = 1.0F, .loss_scale = loss_scale});
    std::vector<std::int32_t> ids(4 * 16);
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = static_cast<std::int32_t>(i * i % 19);
    ids_ = from_vector(ids, {4, 16}, device);
    std::rotate(ids.begin(), ids.begin() + 1, ids.end());
    targets_ = from_vector(ids, {4, 16}, device);
  }

  double step() {
    const Var loss = model_->loss(ids_, targets_);
    backward(loss, optimizer_->loss_scale());
    optimizer_->step();
    optimizer_->zero_grad();
    return loss.value().item<double>();
  }

  std::vector<float> weights() const {
    std::vector<float> all;
    for (const Var* var : model_->parameters()) {
      const std::vector<float> values = var->value().to_vector<float>();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  std::uint64_t reserves() const { return current_allocator(device_).stats().reserves; }

 private:
  Device device_;
  std::unique_ptr<gpt::Gpt> model_;
  std::unique_ptr<nn::AdamW> optimizer_;
  Tensor ids_, targets_;
};

void expect_training_works(Device device, DType dtype) {
  const kernels::LossScale scale =
      dtype == DType::f16 ? nn::dynamic_loss_scale() : kernels::LossScale{};
  Run run(device, dtype, scale);
  const double first = run.step();
  EXPECT_NEAR(first, std::log(19.0), 0.3);
  for (int i = 0; i < 4; ++i)
    run.step();
  const std::uint64_t reserves = run.reserves();
  double last = 0.0;
  for (int i = 0; i < 95; ++i)
    last = run.step();
  EXPECT_EQ(run.reserves(), reserves) << "a step took device memory after the warm-up";
  EXPECT_LT(last, 0.6 * first);

  Run again(device, dtype, scale);
  for (int i = 0; i < 100; ++i)
    again.step();
  EXPECT_EQ(run.weights(), again.weights());
}

TEST(Training, LearnsWithoutNewMemoryAndRepeatsItsBits) {
  expect_training_works(kCpu, DType::f32);
}

// Every op's gradient is linear in that of the loss, and powers of two are exact.
void expect_same_bits_under_a_loss_scale(Device device) {
  const auto weights_after = [device](const kernels::LossScale& scale) {
    Run run(device, DType::f32, scale);
    for (int i = 0; i < 20; ++i)
      run.step();
    return run.weights();
  };
  EXPECT_EQ(weights_after(nn::dynamic_loss_scale()), weights_after({}));
}

TEST(Training, HasTheSameBitsUnderALossScale) {
  expect_same_bits_under_a_loss_scale(kCpu);
}

using CudaLossScale = testing::CudaTest;

TEST_F(CudaLossScale, ChangesNoBitOfATraining) {
  expect_same_bits_under_a_loss_scale(testing::kCuda);
}

class CudaTraining : public testing::CudaTestWith<DType> {};

TEST_P(CudaTraining, LearnsWithoutNewMemoryAndRepeatsItsBits) {
  expect_training_works(Device::parse("cuda"), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaTraining, ::testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& param) { return std::string(name_of(param.param)); });

}  // namespace
}  // namespace lamina
