// SPDX-License-Identifier: MIT
// The CPU kernels behind transformer blocks against plain loops in double: matrix products,
// attention and the optimizer step.
#include "core/kernels/adamw.h"
#include "core/kernels/attention.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/embedding.h"
#include "core/kernels/gemm.h"
#include "tests/kernels/cpu_matrix.h"
#include "tests/support/keep_factor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

namespace lamina::kernels {
namespace {

using testing::Buffer;
using testing::expect_close;
using testing::expect_same_for_any_threads;
using testing::kStream;
using testing::Matrix;
using testing::Workspace;

template <class T>
class CpuBlocks : public ::testing::Test {};

using Floats = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CpuBlocks, Floats);

struct Extents {
  std::int64_t m, n, k;
};

constexpr Extents kProducts[] = {{1, 1, 1}, {1, 300, 7},    {300, 1, 5},     {17, 33, 9},
                                 {5, 6, 0}, {520, 70, 130}, {130, 1030, 65}, {64, 64, 600}};

TYPED_TEST(CpuBlocks, GemmMultipliesTransposedStridedAndAccumulated) {
  using T = TypeParam;
  for (const auto [m, n, k] : kProducts) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        const Matrix<T> a(transpose_a ? k : m, transpose_a ? m : k, 1, 3);
        const Matrix<T> b(transpose_b ? n : k, transpose_b ? k : n, 2, 1);
        const Buffer<float> bias(n, 3);
        Matrix<T> d(m, n, 4, 2);
        Gemm gemm{.a = a.view(),
                  .b = b.view(),
                  .d = d.view(),
                  .transpose_a = transpose_a,
                  .transpose_b = transpose_b,
                  .alpha = 0.5F,
                  .bias = bias.view()};
        Matrix<double> product(m, n, 5);
        for (std::int64_t r = 0; r < m; ++r) {
          for (std::int64_t c = 0; c < n; ++c) {
            double sum = 0.0;
            for (std::int64_t i = 0; i < k; ++i) {
              sum += double{transpose_a ? a(i, r) : a(r, i)} * (transpose_b ? b(c, i) : b(i, c));
            }
            product(r, c) = 0.5 * sum;
          }
        }
        for (T& value : d.data) {
          if (value != Matrix<T>::kMarker) value = std::numeric_limits<T>::quiet_NaN();
        }
        run(Workspace<Gemm>(gemm).args, kStream);  // must not read what it overwrites
        expect_close(d, [&](auto r, auto c) { return product(r, c) + bias[c]; });
        gemm.bias = {};
        gemm.write = GradWrite::accumulate;
        run(Workspace<Gemm>(gemm).args, kStream);
        expect_close(d, [&](auto r, auto c) { return 2.0 * product(r, c) + bias[c]; });
        gemm.write = GradWrite::skip;
        run(Workspace<Gemm>(gemm).args, kStream);
        expect_close(d, [&](auto r, auto c) { return 2.0 * product(r, c) + bias[c]; });
      }
    }
  }
}

TYPED_TEST(CpuBlocks, GemmActivatesAndKeepsTheValueBefore) {
  using T = TypeParam;
  const Matrix<T> a(300, 40, 1), b(40, 130, 2);
  const Buffer<T> bias(130, 3);
  Matrix<T> d(300, 130, 4, 1), before(300, 130, 5, 2);
  run(Gemm{.a = a.view(),
           .b = b.view(),
           .d = d.view(),
           .bias = bias.view(),
           .has_activation = true,
           .activation = ActivationKind::silu,
           .pre_activation = before.view()},
      kStream);
  const auto value = [&](auto r, auto c) {
    double sum = bias[c];
    for (std::int64_t i = 0; i < 40; ++i)
      sum += double{a(r, i)} * b(i, c);
    return sum;
  };
  expect_close(before, value);
  expect_close(d, [&](auto r, auto c) { return value(r, c) / (1.0 + std::exp(-value(r, c))); });
}

TYPED_TEST(CpuBlocks, GemmRepeatsAnOperandOfStrideZeroOverTheBatch) {
  using T = TypeParam;
  const Matrix<T> a(3 * 6, 5, 1), b(5, 4, 2);
  Matrix<T> d(3 * 6, 4, 3);
  Rows a_view = a.view(), d_view = d.view();
  a_view.rows = d_view.rows = 6;
  run(Gemm{.a = a_view, .b = b.view(), .d = d_view, .batch = 3, .stride_a = 30, .stride_d = 24},
      kStream);
  expect_close(d, [&](auto r, auto c) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < 5; ++i)
      sum += double{a(r, i)} * b(i, c);
    return sum;
  });
}

TEST(CpuGemm, GivesTheSameBitsForAnyNumberOfThreads) {
  const Matrix<float> a(517, 300, 1), b(300, 260, 2);
  expect_same_for_any_threads([&] {
    Matrix<float> d(517, 260, 3), gram(300, 300, 4);
    run(Gemm{.a = a.view(), .b = b.view(), .d = d.view()}, kStream);
    run(Gemm{.a = a.view(), .b = a.view(), .d = gram.view(), .transpose_a = true}, kStream);
    d.data.insert(d.data.end(), gram.data.begin(), gram.data.end());
    return d.data;
  });
}

struct Reference {
  Matrix<double> out, dqkv;
  Buffer<double> lse;
};

/// Attention and its gradient for dout, one score at a time.
template <class T>
Reference attend(const AttentionShape& shape, const Matrix<T>& qkv, const Matrix<T>& dout) {
  const std::int64_t time = shape.time, heads = shape.heads, size = shape.head_size;
  Reference want{.out = Matrix<double>(qkv.rows, heads * size, 1),
                 .dqkv = Matrix<double>(qkv.rows, 3 * heads * size, 2),
                 .lse = Buffer<double>(shape.batch * heads * time, 3)};
  std::fill(want.out.data.begin(), want.out.data.end(), 0.0);
  std::fill(want.dqkv.data.begin(), want.dqkv.data.end(), 0.0);
  const auto part = [&](int which, std::int64_t head) { return (which * heads + head) * size; };
  for (std::int64_t pair = 0; pair < shape.batch * heads; ++pair) {
    const std::int64_t base = pair / heads * time, head = pair % heads;
    for (std::int64_t i = 0; i < time; ++i) {
      const std::int64_t seen = shape.causal ? i + 1 : time;
      const auto count = static_cast<std::size_t>(seen);
      std::vector<double> p(count), keep(count, 1.0), dp(count);
      double sum = 0.0, dot = 0.0;
      for (std::int64_t j = 0; j < seen; ++j) {
        const auto at = static_cast<std::size_t>(j);
        double score = 0.0;
        for (std::int64_t c = 0; c < size; ++c) {
          score += double{qkv(base + i, part(0, head) + c)} * qkv(base + j, part(1, head) + c);
        }
        p[at] = std::exp(static_cast<double>(shape.scale) * score);
        sum += p[at];
        if (shape.drop_p > 0.0F) {
          keep[at] = testing::keep_factor(shape.key, shape.drop_p,
                                          attention_mask_element(pair, i, j, time));
        }
      }
      want.lse[pair * time + i] = std::log(sum);
      for (std::int64_t j = 0; j < seen; ++j) {
        const auto at = static_cast<std::size_t>(j);
        p[at] /= sum;
        for (std::int64_t c = 0; c < size; ++c) {
          const double upstream = dout(base + i, head * size + c);
          want.out(base + i, head * size + c) +=
              p[at] * keep[at] * qkv(base + j, part(2, head) + c);
          want.dqkv(base + j, part(2, head) + c) += p[at] * keep[at] * upstream;
          dp[at] += keep[at] * upstream * qkv(base + j, part(2, head) + c);
        }
        dot += p[at] * dp[at];
      }
      for (std::int64_t j = 0; j < seen; ++j) {
        const auto at = static_cast<std::size_t>(j);
        const double dscore = p[at] * (dp[at] - dot) * static_cast<double>(shape.scale);
        for (std::int64_t c = 0; c < size; ++c) {
          want.dqkv(base + i, part(0, head) + c) += dscore * qkv(base + j, part(1, head) + c);
          want.dqkv(base + j, part(1, head) + c) += dscore * qkv(base + i, part(0, head) + c);
        }
      }
    }
  }
  return want;
}

TYPED_TEST(CpuBlocks, AttentionAndItsGradientMatchPlainLoops) {
  using T = TypeParam;
  // Times below, at and across the blocks of 64 queries.
  for (const std::int64_t time : {1, 2, 37, 64, 65, 150}) {
    for (const bool causal : {false, true}) {
      for (const float drop_p : {0.0F, 0.2F}) {
        const AttentionShape shape{.batch = 2,
                                   .time = time,
                                   .heads = 3,
                                   .head_size = 5,
                                   .scale = 0.7F,
                                   .causal = causal,
                                   .drop_p = drop_p,
                                   .key = {.seed = 11, .offset = 3}};
        const Matrix<T> qkv(2 * time, 45, 1, 2), dout(2 * time, 15, 2, 1);
        Matrix<T> out(2 * time, 15, 3, 4), dqkv(2 * time, 45, 4, 1);
        Buffer<T> lse(6 * time, 5);
        const Reference want = attend(shape, qkv, dout);
        run(Workspace<Attention>(
                {.shape = shape, .qkv = qkv.view(), .out = out.view(), .lse = lse.view()})
                .args,
            kStream);
        expect_close(out, [&](auto r, auto c) { return want.out(r, c); });
        expect_close(lse, [&](auto i) { return want.lse[i]; });
        AttentionBackward backward{.shape = shape,
                                   .qkv = qkv.view(),
                                   .out = out.view(),
                                   .lse = lse.view(),
                                   .dout = dout.view(),
                                   .dqkv = dqkv.view(),
                                   .write = GradWrite::overwrite};
        run(Workspace<AttentionBackward>(backward).args, kStream);
        expect_close(dqkv, [&](auto r, auto c) { return want.dqkv(r, c); });
        backward.write = GradWrite::accumulate;
        run(Workspace<AttentionBackward>(backward).args, kStream);
        expect_close(dqkv, [&](auto r, auto c) { return 2.0 * want.dqkv(r, c); });
      }
    }
  }
}

TEST(CpuAttention, GivesTheSameBitsForAnyNumberOfThreads) {
  const AttentionShape shape{
      .batch = 7, .time = 100, .heads = 3, .head_size = 16, .scale = 0.25F, .causal = true};
  const Matrix<float> qkv(700, 144, 1), dout(700, 48, 2);
  expect_same_for_any_threads([&] {
    Matrix<float> out(700, 48, 3), dqkv(700, 144, 4);
    Buffer<float> lse(2100, 5);
    run(Workspace<Attention>(
            {.shape = shape, .qkv = qkv.view(), .out = out.view(), .lse = lse.view()})
            .args,
        kStream);
    run(Workspace<AttentionBackward>({.shape = shape,
                                      .qkv = qkv.view(),
                                      .out = out.view(),
                                      .lse = lse.view(),
                                      .dout = dout.view(),
                                      .dqkv = dqkv.view(),
                                      .write = GradWrite::overwrite})
            .args,
        kStream);
    dqkv.data.insert(dqkv.data.end(), out.data.begin(), out.data.end());
    return dqkv.data;
  });
}

/// One row, one column, odd sizes, sizes beside the vector width, and enough for several chunks.
constexpr std::pair<std::int64_t, std::int64_t> kLogits[] = {
    {1, 1}, {1, 1000}, {300, 1}, {33, 17}, {600, 96}};

TYPED_TEST(CpuBlocks, EmbeddingGathersRowsAndAddsTheirGradients) {
  using T = TypeParam;
  for (const std::int64_t cols : {1, 33, 200}) {
    const Matrix<T> table(7, cols, 1, 2), dy(40, cols, 2, 1);
    Buffer<std::int32_t> tokens(40, 3);
    for (std::int64_t i = 0; i < 40; ++i)
      tokens[i] = static_cast<std::int32_t>(i * i % 6);
    Matrix<T> y(40, cols, 3), dtable(7, cols, 4, 1);
    run(Embedding{.tokens = tokens.view(), .table = table.view(), .y = y.view()}, kStream);
    expect_close(y, [&](auto r, auto c) { return table(tokens[r], c); });
    EmbeddingBackward backward{.tokens = tokens.view(),
                               .dy = dy.view(),
                               .dtable = dtable.view(),
                               .write = GradWrite::overwrite};
    const auto gradient = [&](auto v, auto c) {
      double sum = 0.0;
      for (std::int64_t i = 0; i < 40; ++i)
        sum += tokens[i] == v ? double{dy(i, c)} : 0.0;
      return sum;
    };
    run(Workspace<EmbeddingBackward>(backward).args, kStream);
    expect_close(dtable, gradient);
    backward.write = GradWrite::accumulate;
    run(Workspace<EmbeddingBackward>(backward).args, kStream);
    expect_close(dtable, [&](auto v, auto c) { return 2.0 * gradient(v, c); });
  }
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(CpuEmbedding, NamesTheTokenThatIsNotInTheTable) {
  Matrix<float> table(96, 8, 1), y(13, 8, 2);
  Buffer<std::int32_t> tokens(13, 3);
  for (std::int64_t i = 0; i < 13; ++i)
    tokens[i] = i == 12 ? 97 : 0;
  EXPECT_EQ(error_of([&] {
              run(Embedding{.tokens = tokens.view(), .table = table.view(), .y = y.view()},
                  kStream);
            }),
            "embedding: token 97 at position 12, expected 0 <= token < 96 (the rows of the table)");
}

TYPED_TEST(CpuBlocks, CrossEntropyIgnoresPaddingAndIgnoredRows) {
  using T = TypeParam;
  for (const auto& [rows, cols] : kLogits) {
    const std::int64_t classes = std::max<std::int64_t>(1, cols - 3);
    const Matrix<T> logits(rows, cols, 1, 2);
    Buffer<std::int32_t> targets(rows, 2);
    for (std::int64_t r = 0; r < rows; ++r) {
      targets[r] = r % 5 == 3 ? -100 : static_cast<std::int32_t>(r * 7 % classes);
    }
    Buffer<T> losses(rows, 3), lse(rows, 4), loss{T{9}}, count{T{9}}, dloss{T{2}};
    run(CrossEntropy{.logits = logits.view(),
                     .targets = targets.view(),
                     .classes = classes,
                     .ignore_index = -100,
                     .losses = losses.view(),
                     .lse = lse.view(),
                     .loss = loss.view(),
                     .count = count.view()},
        kStream);
    Matrix<T> dlogits = logits;  // in place
    run(CrossEntropyBackward{.logits = dlogits.view(),
                             .targets = targets.view(),
                             .classes = classes,
                             .ignore_index = -100,
                             .lse = lse.view(),
                             .count = count.view(),
                             .dloss = dloss.view(),
                             .dlogits = dlogits.view(),
                             .write = GradWrite::overwrite},
        kStream);
    double total = 0.0, used = 0.0;
    std::vector<double> sums(static_cast<std::size_t>(rows));
    for (std::int64_t r = 0; r < rows; ++r) {
      double& sum = sums[static_cast<std::size_t>(r)];
      for (std::int64_t c = 0; c < classes; ++c)
        sum += std::exp(double{logits(r, c)});
      if (targets[r] == -100) continue;
      total += std::log(sum) - logits(r, targets[r]);
      used += 1.0;
    }
    EXPECT_EQ(count[0], used);
    EXPECT_NEAR(loss[0], total / used, 1e-5);
    expect_close(dlogits, [&](auto r, auto c) {
      if (targets[r] == -100 || c >= classes) return 0.0;
      const double p = std::exp(double{logits(r, c)}) / sums[static_cast<std::size_t>(r)];
      return (p - (c == targets[r] ? 1.0 : 0.0)) * 2.0 / used;
    });
  }
}

TEST(CpuCrossEntropy, NamesTheTargetThatIsNoClass) {
  Matrix<float> logits(3, 10, 1);
  Buffer<std::int32_t> targets{0, -1, 10};
  Buffer<float> losses(3, 1), lse(3, 2), loss{0.0F}, count{0.0F};
  EXPECT_EQ(
      error_of([&] {
        run(CrossEntropy{.logits = logits.view(),
                         .targets = targets.view(),
                         .classes = 10,
                         .ignore_index = -1,
                         .losses = losses.view(),
                         .lse = lse.view(),
                         .loss = loss.view(),
                         .count = count.view()},
            kStream);
      }),
      "cross_entropy: target 10 at row 2, expected 0 <= target < 10 (the classes) or -1 (ignored)");
}

/// A StepState in a buffer of bytes.
struct State {
  std::vector<std::uint8_t> bytes;

  explicit State(const StepState& state) : bytes(sizeof(state)) {
    std::memcpy(bytes.data(), &state, sizeof(state));
  }

  StepState get() const {
    StepState state;
    std::memcpy(&state, bytes.data(), sizeof(state));
    return state;
  }

  Flat view() {
    return {
        .data = bytes.data(), .size = static_cast<std::int64_t>(bytes.size()), .dtype = DType::u8};
  }
};

template <class T>
StepState begin_step(const Buffer<T>& grads, const StepState& before, Schedule schedule,
                     float max_norm) {
  State state(before);
  run(Workspace<BeginStep>({.grads = grads.view(),
                            .state = state.view(),
                            .scale = 0.5F,
                            .max_norm = max_norm,
                            .beta1 = 0.9F,
                            .beta2 = 0.99F,
                            .schedule = schedule})
          .args,
      kStream);
  return state.get();
}

TYPED_TEST(CpuBlocks, BeginStepClipsTheScaledNorm) {
  const Buffer<TypeParam> grads(100'001, 1);
  double squares = 0.0;
  for (const double grad : grads.data)
    squares += grad * grad;
  const double norm = 0.5 * std::sqrt(squares);
  const StepState clipped = begin_step(grads, {}, {}, 1.0F);
  EXPECT_NEAR(clipped.grad_norm, norm, 1e-5 * norm);
  EXPECT_NEAR(clipped.grad_scale, 0.5 / norm, 1e-5 / norm);
  EXPECT_EQ(clipped.step, 1);
  EXPECT_EQ(clipped.updates, 1);
  EXPECT_FLOAT_EQ(clipped.bias_correction_1, 0.1F);
  EXPECT_EQ(begin_step(grads, {}, {}, 0.0F).grad_scale, 0.5F);
  EXPECT_EQ(begin_step(grads, {}, {}, 1e9F).grad_scale, 0.5F);
}

TEST(CpuBeginStep, SkipsWhenTheNormIsNotFinite) {
  Buffer<float> grads(50'000, 1);
  grads[40'000] = std::numeric_limits<float>::infinity();
  const StepState state = begin_step(grads, {.step = 4, .updates = 4}, {}, 1.0F);
  EXPECT_EQ(state.grad_scale, 0.0F);
  EXPECT_EQ(state.step, 5);
  EXPECT_EQ(state.updates, 4);
  EXPECT_EQ(state.skipped, 1);
  EXPECT_EQ(state.skipped_in_a_row, 1);
  const StepState again = begin_step(grads, state, {}, 1.0F);
  EXPECT_EQ(again.skipped_in_a_row, 2);
  grads[40'000] = 1.0F;
  const StepState good = begin_step(grads, again, {}, 1.0F);
  EXPECT_EQ(good.skipped_in_a_row, 0);
  EXPECT_EQ(good.skipped, 2);
}

TEST(CpuBeginStep, FollowsTheSchedule) {
  const Buffer<float> grads(3, 1);
  Schedule schedule{
      .kind = ScheduleKind::cosine, .peak = 1.0F, .floor = 0.2F, .warmup = 4, .total = 14};
  const auto lr = [&](std::int64_t step) {
    return begin_step(grads, {.step = step}, schedule, 0.0F).lr;
  };
  EXPECT_FLOAT_EQ(lr(0), 0.25F);
  EXPECT_FLOAT_EQ(lr(3), 1.0F);
  EXPECT_FLOAT_EQ(lr(4), 1.0F);
  EXPECT_FLOAT_EQ(lr(9), 0.6F);
  EXPECT_FLOAT_EQ(lr(14), 0.2F);
  EXPECT_FLOAT_EQ(lr(1000), 0.2F);
  schedule.kind = ScheduleKind::linear;
  EXPECT_FLOAT_EQ(lr(6), 0.84F);
  schedule.kind = ScheduleKind::constant;
  EXPECT_FLOAT_EQ(lr(1000), 1.0F);
}

TYPED_TEST(CpuBlocks, AdamWUpdatesMomentsAndWeights) {
  using T = TypeParam;
  constexpr std::int64_t kSize = 40'003, kDecayed = 20'001;
  Buffer<T> weights(kSize, 1), m(kSize, 3), v(kSize, 4);
  const Buffer<T> grads(kSize, 2);
  for (T& value : v.data)
    value = std::abs(value);
  const Buffer<T> old_weights = weights, old_m = m, old_v = v;
  State state(
      {.lr = 0.25F, .grad_scale = 0.5F, .bias_correction_1 = 0.5F, .bias_correction_2 = 0.25F});
  const AdamW step{.weights = weights.view(),
                   .grads = grads.view(),
                   .m = m.view(),
                   .v = v.view(),
                   .state = state.view(),
                   .decayed = kDecayed,
                   .beta1 = 0.75F,
                   .beta2 = 0.875F,
                   .eps = 0.125F,
                   .weight_decay = 0.5F};
  run(step, kStream);
  const auto want_m = [&](auto i) { return 0.75 * old_m[i] + 0.25 * 0.5 * grads[i]; };
  const auto want_v = [&](auto i) {
    return 0.875 * old_v[i] + 0.125 * std::pow(0.5 * grads[i], 2);
  };
  expect_close(m, want_m);
  expect_close(v, want_v);
  const auto want = [&](auto i) {
    const double decay = i < kDecayed ? 1.0 - 0.25 * 0.5 : 1.0;
    return old_weights[i] * decay -
           0.25 * (want_m(i) / 0.5) / (std::sqrt(want_v(i) / 0.25) + 0.125);
  };
  expect_close(weights, want);
  const Buffer<T> kept = weights;
  State skipped({.lr = 0.25F, .grad_scale = 0.0F});
  AdamW skip = step;
  skip.state = skipped.view();
  run(skip, kStream);
  EXPECT_EQ(weights.data, kept.data);
}

TEST(CpuAdamW, RoundsTheMasterWeights) {
  constexpr std::int64_t kSize = 9;
  std::vector<BFloat16> weights(kSize);
  Buffer<float> master(kSize, 1), m{0, 0, 0, 0, 0, 0, 0, 0, 0}, v = m;
  const Buffer<float> grads(kSize, 2), old = master;
  State state({.lr = 0.01F, .bias_correction_1 = 0.1F, .bias_correction_2 = 0.01F});
  run(AdamW{.weights = {.data = weights.data(), .size = kSize, .dtype = DType::bf16},
            .master = master.view(),
            .grads = grads.view(),
            .m = m.view(),
            .v = v.view(),
            .state = state.view(),
            .decayed = 0,
            .beta1 = 0.9F,
            .beta2 = 0.99F,
            .eps = 1e-8F,
            .weight_decay = 0.0F},
      kStream);
  for (std::int64_t i = 0; i < kSize; ++i) {
    // The first step moves every weight by lr against the sign of its gradient.
    EXPECT_NEAR(master[i], old[i] - std::copysign(0.01F, grads[i]), 1e-5F);
    EXPECT_EQ(weights[static_cast<std::size_t>(i)].bits, BFloat16(master[i]).bits);
  }
}

TEST(CpuBeginStep, GivesTheSameBitsForAnyNumberOfThreads) {
  const Buffer<float> grads(300'001, 1);
  expect_same_for_any_threads(
      [&] { return std::vector<float>{begin_step(grads, {}, {}, 1.0F).grad_norm}; });
}

}  // namespace
}  // namespace lamina::kernels
