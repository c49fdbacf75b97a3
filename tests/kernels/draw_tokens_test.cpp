// SPDX-License-Identifier: MIT
// Drawing tokens: what can be drawn and how often on the CPU; on CUDA against the CPU.
#include "core/kernels/draw_tokens.h"

#include "tests/kernels/cuda_run.h"

#include <cmath>
#include <map>
#include <numeric>

namespace lamina::testing {
namespace {

constexpr std::int32_t kPosition = 2;

/// The tokens that one call draws, and their log-probabilities.
struct Drawn {
  std::vector<std::int32_t> tokens;
  std::vector<double> log_probs;
};

/// `logits` [rows, classes] on its device; each row has the tokens `before` already.
Drawn draw(kernels::DrawTokens args, const Tensor& logits,
           const std::vector<std::int32_t>& before = {0, 0, 0}) {
  const std::int64_t count = logits.dim(0), capacity = kPosition + 3;
  const Device device = logits.device();
  std::vector<std::int32_t> all;
  for (std::int64_t row = 0; row < count; ++row) {
    all.insert(all.end(), before.begin(), before.end());
    all.insert(all.end(), {-7, -7});
  }
  const Tensor tokens = from_vector(all, {count, capacity}).to(device);
  const Tensor log_probs = full({count, capacity}, 7.0F, DType::f32, device);
  const Tensor next = full({count}, std::int32_t{-7}, DType::i32, device);
  const Tensor position = full({1}, kPosition, DType::i32, device);
  args.position = flat(position);
  args.logits = rows(logits);
  args.tokens = rows(tokens);
  args.log_probs = rows(log_probs);
  args.next = flat(next);
  run_on(device, args);
  Drawn drawn{next.to_vector<std::int32_t>(), {}};
  const auto written = tokens.to_vector<std::int32_t>();
  const auto logs = log_probs.to_vector<double>();
  for (std::size_t row = 0; row < drawn.tokens.size(); ++row) {
    for (std::size_t t = 0; t < 5; ++t) {
      const std::size_t i = row * 5 + t;
      EXPECT_EQ(written[i], t == 3 ? drawn.tokens[row] : all[i]);
      EXPECT_EQ(t != 3 ? logs[i] : 7.0, 7.0);
    }
    drawn.log_probs.push_back(logs[row * 5 + 3]);
  }
  return drawn;
}

/// `count` rows of the same logits.
Tensor repeated(const std::vector<double>& logits, std::int64_t count, DType dtype = DType::f32) {
  std::vector<double> all;
  for (std::int64_t i = 0; i < count; ++i)
    all.insert(all.end(), logits.begin(), logits.end());
  return from_vector(all, {count, static_cast<std::int64_t>(logits.size())}).to(dtype);
}

/// Shares of the classes among many draws.
std::vector<double> shares(const kernels::DrawTokens& args, const std::vector<double>& logits,
                           const std::vector<std::int32_t>& before = {0, 0, 0}) {
  constexpr std::int64_t kCount = 100000;
  std::vector<double> all(logits.size());
  for (const std::int32_t token : draw(args, repeated(logits, kCount), before).tokens)
    all.at(static_cast<std::size_t>(token)) += 1.0 / kCount;
  return all;
}

void expect_shares(const std::vector<double>& got, const std::vector<double>& weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  ASSERT_EQ(got.size(), weights.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double p = weights[i] / total;
    if (p == 0.0) {
      EXPECT_EQ(got[i], 0.0) << i;
    } else {  // five standard deviations
      EXPECT_NEAR(got[i], p, 1e-9 + 5.0 * std::sqrt(p * (1.0 - p) / 100000)) << i;
    }
  }
}

const std::vector<double> kWeights = {8, 1, 4, 2, 4, 1};

std::vector<double> logits_of(const std::vector<double>& weights) {
  std::vector<double> logits;
  for (const double weight : weights)
    logits.push_back(std::log(weight) - 3.0);
  return logits;
}

TEST(DrawTokens, DrawsInProportionToTheProbabilities) {
  const auto logits = logits_of(kWeights);
  expect_shares(shares({.seed = 3}, logits), kWeights);
  expect_shares(shares({.temperature = 0.5F, .seed = 4}, logits), {64, 1, 16, 4, 16, 1});
  EXPECT_NE(draw({.seed = 3}, repeated(logits, 50)).tokens,
            draw({.seed = 4}, repeated(logits, 50)).tokens);
}

TEST(DrawTokens, LeavesOutWhatTopKAndTopPSay) {
  const auto logits = logits_of(kWeights);
  expect_shares(shares({.top_k = 1}, logits), {8, 0, 0, 0, 0, 0});
  expect_shares(shares({.top_k = 2}, logits), {8, 0, 4, 0, 4, 0});  // equal ones stay together
  expect_shares(shares({.top_k = 4}, logits), {8, 0, 4, 2, 4, 0});
  expect_shares(shares({.top_k = 6}, logits), kWeights);
  expect_shares(shares({.top_p = 0.39F}, logits), {8, 0, 0, 0, 0, 0});
  expect_shares(shares({.top_p = 0.41F}, logits), {8, 0, 4, 0, 4, 0});
  expect_shares(shares({.top_p = 0.85F}, logits), {8, 0, 4, 2, 4, 0});
  // Of the top 4 alone, 16 of 18 are above the least.
  expect_shares(shares({.top_k = 4, .top_p = 0.88F}, logits), {8, 0, 4, 0, 4, 0});
  expect_shares(shares({.top_k = 4, .top_p = 0.9F}, logits), {8, 0, 4, 2, 4, 0});
}

TEST(DrawTokens, PenalisesWhatIsThereOnce) {
  // Twice the logarithm: logit 1.0 becomes 0.5, logit -1.0 becomes -2.0, however often it occurs.
  expect_shares(shares({.repetition_penalty = 2.0F}, {1.0, -1.0, 1.0, -1.0}, {0, 1, 1}),
                {std::exp(0.5), std::exp(-2.0), std::exp(1.0), std::exp(-1.0)});
  EXPECT_EQ(
      draw({.temperature = 0.0F, .repetition_penalty = 2.0F}, repeated({1.0, 0.9}, 1)).tokens[0],
      1);
}

TEST(DrawTokens, TakesTheFirstLargestWithoutTemperature) {
  EXPECT_EQ(draw({.temperature = 0.0F}, repeated({1.0, 3.0, 3.0, 2.0}, 1)).tokens[0], 1);
}

TEST(DrawTokens, GivesTheLogProbabilityOfTheLogitsAsTheyAre) {
  const auto drawn = draw({.temperature = 0.0F, .top_k = 1, .repetition_penalty = 1.5F},
                          repeated(logits_of(kWeights), 1));
  EXPECT_EQ(drawn.tokens[0], 0);
  EXPECT_NEAR(drawn.log_probs[0], std::log(8.0 / 20.0), 1e-6);
}

std::vector<std::vector<double>> bad_logits() {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  return {
      {nan, 1.0, 2.0}, {1.0, nan, 2.0}, {1.0, infinity, 2.0}, {-infinity, -infinity, -infinity}};
}

TEST(DrawTokens, SaysWhenLogitsAreNotFinite) {
  for (const auto& logits : bad_logits()) {
    const auto drawn = draw({}, repeated(logits, 1));
    EXPECT_EQ(drawn.tokens[0], 0);
    EXPECT_TRUE(std::isnan(drawn.log_probs[0]));
  }
  const auto masked = draw({}, repeated({-std::numeric_limits<double>::infinity(), 1.0}, 1));
  EXPECT_EQ(masked.tokens[0], 1);
  EXPECT_EQ(masked.log_probs[0], 0.0);
}

TEST(DrawNoise, IsFiniteForAllBitsAndFollowsGumbel) {
  EXPECT_TRUE(std::isfinite(kernels::draw_noise(0)));
  EXPECT_TRUE(std::isfinite(kernels::draw_noise(0xffffffffU)));
  // P(noise <= x) = exp(-exp(-x)), which falls as the bits grow.
  for (const double share : {0.01, 0.3, 0.5, 0.9, 0.999999}) {
    const auto bits = static_cast<std::uint32_t>((1.0 - share) * 0x1p32);
    EXPECT_NEAR(kernels::draw_noise(bits), -std::log(-std::log(share)), 1e-3);
  }
}

TEST(DrawTokens, PassesOverTokensThatAreNoClass) {
  const kernels::DrawTokens args{.temperature = 0.0F, .repetition_penalty = 2.0F};
  EXPECT_EQ(draw(args, repeated({1.0, 0.9, 0.8}, 2), {-1, 3, 1 << 30}).tokens,
            (std::vector<std::int32_t>{0, 0}));
}

class CudaDrawTokens : public CudaTestWith<DType> {};

/// Noise and scores differ in the last digits, so a near tie may go the other way: at most a few of
/// the rows do, and then to a class that was nearly as good.
TEST_P(CudaDrawTokens, DrawsWhatTheCpuDraws) {
  Generator generator(9);
  const std::vector<std::int32_t> before = {5, -1, 1 << 30};
  for (const std::int64_t classes : {6, 96, 1000, 50257}) {
    const std::int64_t count = classes > 10000 ? 20 : 300;
    const auto logits = CudaTensor::normal({count, classes}, GetParam(), generator, 3.0);
    const Tensor reference = logits.tensor().to(kCpu, DType::f32).contiguous();
    for (const kernels::DrawTokens& args : {kernels::DrawTokens{.seed = 1},
                                            {.temperature = 0.0F},
                                            {.temperature = 0.7F, .top_k = 5},
                                            {.top_p = 0.8F},
                                            {.temperature = 1.5F, .top_k = 50, .top_p = 0.9F},
                                            {.repetition_penalty = 1.7F}}) {
      SCOPED_TRACE(cat(classes, " classes, top ", args.top_k, " and ", args.top_p));
      const Drawn cpu = draw(args, reference, before), cuda = draw(args, logits.tensor(), before);
      int different = 0;
      for (std::size_t row = 0; row < cpu.tokens.size(); ++row) {
        if (cpu.tokens[row] != cuda.tokens[row]) {
          ++different;
        } else {
          EXPECT_NEAR(cpu.log_probs[row], cuda.log_probs[row], 1e-4);
        }
      }
      EXPECT_LE(different, args.temperature == 0.0F ? 0 : 1);
    }
  }
}

TEST_P(CudaDrawTokens, SaysWhenLogitsAreNotFinite) {
  for (const auto& logits : bad_logits()) {
    const auto drawn = draw({}, repeated(logits, 2, GetParam()).to(kCuda));
    EXPECT_EQ(drawn.tokens, (std::vector<std::int32_t>{0, 0}));
    EXPECT_TRUE(std::isnan(drawn.log_probs[1]));
  }
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaDrawTokens, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
