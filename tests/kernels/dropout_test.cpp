// SPDX-License-Identifier: MIT
// Dropout's mask: what is drawn for which element, how it is distributed, and that its scale is
// exact for the probability that is used.
#include "core/kernels/dropout.h"

#include "core/kernels/attention.h"
#include "core/random.h"
#include "tests/kernels/cuda_run.h"
#include "tests/support/cuda_case.h"
#include "tests/support/keep_factor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

namespace lamina::testing {
namespace {

constexpr PhiloxRegion kRegion{.seed = 0x123456789abcdef, .offset = 7};
constexpr float kBelowOne = 0x1.fffffep-1F;

PhiloxKey key_of(PhiloxRegion region) {
  return {.seed = region.seed, .offset = region.offset};
}

/// Dropout of `cols` ones in f64, by the CPU.
std::vector<double> dropped_ones(std::int64_t cols, float p, PhiloxRegion region) {
  const Tensor x = full({1, cols}, 1.0, DType::f64);
  run(kernels::Dropout{.x = rows(x), .y = rows(x), .p = p, .key = key_of(region)}, CpuStream{});
  return x.to_vector<double>();
}

double as_bit(double factor) {
  return factor > 0.0 ? 1.0 : 0.0;
}

/// How many standard deviations the sample correlation of bits with P(1) = q is from 0.
double correlation(double products, double left, double right, double count, double q) {
  const double covariance = products / count - q * (left + right) / count + q * q;
  return covariance / (q * (1.0 - q)) * std::sqrt(count);
}

TEST(DropThreshold, IsPInUnitsOf2ToMinus16RoundedToNearest) {
  EXPECT_EQ(drop_threshold(0.0F), 0U);
  EXPECT_EQ(drop_threshold(0x0.ffffffp-17F), 0U);
  EXPECT_EQ(drop_threshold(0x1p-17F), 1U);
  EXPECT_EQ(drop_threshold(0.2F), 13107U);
  EXPECT_EQ(drop_threshold(0.5F), 32768U);
  EXPECT_EQ(drop_threshold(0x1.fffep-1F), 65535U);
  EXPECT_EQ(drop_threshold(kBelowOne), 65535U);  // one of 2^16 is left
}

TEST(KeepScale, IsExactForTheProbabilityInUse) {
  EXPECT_EQ(keep_scale(0x1p-18F), 1.0);
  EXPECT_EQ(keep_scale(0.5F), 2.0);
  EXPECT_EQ(keep_scale(0.2F), 65536.0 / 52429.0);
  EXPECT_EQ(keep_scale(kBelowOne), 65536.0);
}

TEST(PhiloxRounds, MakesTheWordsOfItsSeed) {
  const PhiloxRounds rounds(kRegion.seed);
  for (const std::uint64_t number : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{5} << 32U}) {
    const PhiloxBlock got = rounds.words(kRegion.offset, number);
    const PhiloxBlock want = philox_words(kRegion, number);
    EXPECT_EQ(got.x, want.x);
    EXPECT_EQ(got.y, want.y);
    EXPECT_EQ(got.z, want.z);
    EXPECT_EQ(got.w, want.w);
  }
  EXPECT_NE(philox_words(kRegion, std::uint64_t{5} << 32U).x, philox_words(kRegion, 0).x);
}

TEST(CpuDropout, KeepsEachOfTheEightElementsOfABlockWithTheSameProbability) {
  constexpr std::int64_t kBlocks = 1 << 17;
  for (const float p : {0.1F, 0.2F, 0.5F, 0.9F}) {
    const std::vector<double> y = dropped_ones(kBlocks * 8, p, kRegion);
    const double q = 1.0 - drop_threshold(p) / 65536.0;
    double kept[8] = {};
    for (std::size_t i = 0; i < y.size(); ++i) {
      ASSERT_TRUE(y[i] == 0.0 || y[i] == keep_scale(p));
      kept[i % 8] += as_bit(y[i]);
    }
    double chi_squared = 0.0;
    double total = 0.0;
    for (const double count : kept) {
      chi_squared += std::pow(count - kBlocks * q, 2) / (kBlocks * q * (1.0 - q));
      total += count;
    }
    EXPECT_LT(chi_squared, 26.1);  // one in a thousand with 8 degrees of freedom
    const double deviation = std::sqrt(8.0 * kBlocks * q * (1.0 - q));
    EXPECT_NEAR(total, 8.0 * kBlocks * q, 4.0 * deviation);
  }
}

TEST(CpuDropout, KeepsElementsIndependentlyOfTheirNeighbours) {
  constexpr std::int64_t kCount = 1 << 20;
  const std::vector<double> y = dropped_ones(kCount, 0.2F, kRegion);
  const std::vector<double> other =
      dropped_ones(kCount, 0.2F, {.seed = kRegion.seed, .offset = kRegion.offset + 1});
  const double q = 1.0 / keep_scale(0.2F);
  const auto deviations = [&](const std::vector<double>& b, std::size_t lag) {
    double products = 0.0, left = 0.0, right = 0.0;
    const std::size_t count = y.size() - lag;
    for (std::size_t i = 0; i < count; ++i) {
      products += as_bit(y[i]) * as_bit(b[i + lag]);
      left += as_bit(y[i]);
      right += as_bit(b[i + lag]);
    }
    return correlation(products, left, right, static_cast<double>(count), q);
  };
  for (std::size_t lag = 1; lag <= 32; ++lag)
    EXPECT_LT(std::abs(deviations(y, lag)), 4.0) << lag;
  EXPECT_LT(std::abs(deviations(other, 0)), 4.0);
}

TEST(CpuDropout, KeepsTheExpectationWherePIsRounded) {
  constexpr std::int64_t kCount = 1 << 20;
  for (const double y : dropped_ones(1000, 0x1p-18F, kRegion))
    ASSERT_EQ(y, 1.0);
  double sum = 0.0;
  for (const double y : dropped_ones(kCount, kBelowOne, kRegion))
    sum += y;
  EXPECT_NEAR(sum / kCount, 1.0, 4.0 * std::sqrt(65535.0 / kCount));
}

TEST(AttentionMask, GivesEachProbabilityAnElementOfItsOwn) {
  for (const std::int64_t time : {1, 16, 17, 40}) {
    constexpr std::int64_t kHeads = 3;
    const auto tiles = static_cast<std::uint64_t>((time + 15) / 16);
    std::set<std::uint64_t> elements;
    for (std::int64_t head = 0; head < kHeads; ++head) {
      for (std::int64_t query = 0; query < time; ++query) {
        for (std::int64_t key = 0; key < time; ++key)
          elements.insert(kernels::attention_mask_element(head, query, key, time));
      }
    }
    EXPECT_EQ(elements.size(), static_cast<std::size_t>(kHeads * time * time));
    EXPECT_LT(*elements.rbegin(), kHeads * tiles * tiles * 256);
  }
}

TEST(AttentionMask, GivesABlockToTwoQueriesAndFourKeys) {
  const auto element = [](std::int64_t query, std::int64_t key) {
    return kernels::attention_mask_element(1, query, key, 40);  // 3 tiles across, 9 to a head
  };
  const std::uint64_t first = ((9 + 3 + 2) * 32 + 5 * 4 + 3) * 8;  // queries 21, 29; keys 38 ...
  EXPECT_EQ(element(21, 38), first);
  EXPECT_EQ(element(21, 39), first + 1);
  EXPECT_EQ(element(29, 38), first + 2);
  EXPECT_EQ(element(29, 39), first + 3);
  EXPECT_EQ(element(21, 30), first - 32 * 8 + 4);  // 8 further in the tile before
}

TEST(AttentionMask, KeepsProbabilitiesIndependentlyOfTheirNeighbours) {
  constexpr std::int64_t kTime = 720;
  std::vector<double> kept(kTime * kTime);
  for (std::int64_t query = 0; query < kTime; ++query) {
    for (std::int64_t key = 0; key < kTime; ++key) {
      kept[static_cast<std::size_t>(query * kTime + key)] =
          as_bit(keep_factor(kRegion, 0.2F, kernels::attention_mask_element(2, query, key, kTime)));
    }
  }
  const double q = 1.0 / keep_scale(0.2F);
  constexpr std::int64_t kSteps[][2] = {{0, 1}, {0, 2}, {0, 8},  {0, 9},  {1, 0}, {8, 0},
                                        {8, 8}, {1, 1}, {0, 16}, {16, 0}, {8, 1}, {16, 16}};
  for (const auto& [down, right] : kSteps) {
    double products = 0.0, first = 0.0, second = 0.0, count = 0.0;
    for (std::int64_t query = 0; query + down < kTime; ++query) {
      for (std::int64_t key = 0; key + right < kTime; ++key) {
        const double a = kept[static_cast<std::size_t>(query * kTime + key)];
        const double b = kept[static_cast<std::size_t>((query + down) * kTime + key + right)];
        products += a * b;
        first += a;
        second += b;
        ++count;
      }
    }
    EXPECT_LT(std::abs(correlation(products, first, second, count, q)), 4.0)
        << down << ", " << right;
  }
}

class CudaDropout : public CudaTest {};

TEST_F(CudaDropout, DropsTheSameElementsAsTheCpuForAnyProbability) {
  for (const float p : {0x1p-18F, 0x1p-17F, 0.499F, 0.5F, 0.75F, 0.999F, kBelowOne}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (const std::int64_t cols : {1, 7, 12, 1000}) {  // 12: half a block a vector in f32
        const Tensor x = full({9, cols}, 1.0, dtype, kCuda);
        run_on(kCuda, kernels::Dropout{.x = rows(x), .y = rows(x), .p = p, .key = key_of(kRegion)});
        const std::vector<double> got = x.to(kCpu).to(DType::f64).to_vector<double>();
        for (std::size_t i = 0; i < got.size(); ++i)
          ASSERT_EQ(got[i] > 0.0, keep_factor(kRegion, p, i) > 0.0) << p << ", " << i;
      }
    }
  }
}

TEST_F(CudaDropout, NumbersMoreElementsThan32BitsCount) {
  constexpr std::int64_t kRows = (1 << 16) + 1, kCols = 1 << 16;  // 8 GiB
  const Tensor x = full({kRows, kCols}, 1.0, DType::bf16, kCuda);
  run_on(kCuda, kernels::Dropout{.x = rows(x), .y = rows(x), .p = 0.5F, .key = key_of(kRegion)});
  const Tensor last = x.slice(0, kRows - 1, kRows).to(kCpu).to(DType::f64);
  const std::vector<double> got = last.to_vector<double>();
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(got[i], keep_factor(kRegion, 0.5F, (std::uint64_t{1} << 32U) + i)) << i;
}

}  // namespace
}  // namespace lamina::testing
