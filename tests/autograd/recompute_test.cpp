// SPDX-License-Identifier: MIT
// recompute(): the same gradients as without it, bit for bit, from the inputs alone.
#include "autograd/recompute.h"

#include "autograd/ops.h"
#include "core/storage.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

Tensor sample_f32(const Shape& shape, std::uint64_t number) {
  Generator generator(number);
  return randn(shape, generator, DType::f32);
}

/// A block with two inputs, two outputs, dropout, a by-product that crosses its border, and an
/// input that is handed through.
struct Block {
  Var weight = Var::parameter(sample_f32({8, 8}, 1)), bias = Var::parameter(sample_f32({8}, 2));
  Var gain = Var::parameter(sample_f32({8}, 3));

  std::vector<Var> operator()(const std::vector<Var>& in) const {
    const auto [sum, normed] =
        add_layer_norm(in[0], in[1], gain, {}, 1e-5, 0.3, &default_generator());
    return {sum, dropout(linear_gelu(normed, weight, bias), 0.5, default_generator())};
  }
};

struct Result {
  float loss;
  std::vector<std::vector<float>> grads;

  bool operator==(const Result&) const = default;
};

/// Loss and gradients of three blocks.
Result train(bool recomputes) {
  seed(11);
  const Block blocks[3];
  const Var x = Var::parameter(sample_f32({5, 8}, 4)), w = Var::parameter(sample_f32({8, 8}, 5));
  std::vector<Var> at = {scale(x, 1.0), linear(x, w)};
  for (const Block& block : blocks)
    at = recomputes ? recompute(at, block) : block(at);
  const Var loss = mean(mul(at[0], at[1]));
  backward(loss);
  Result result{loss.value().item<float>(), {}};
  for (const Var& parameter : {x, w, blocks[0].weight, blocks[0].bias, blocks[0].gain,
                               blocks[2].weight, blocks[2].bias, blocks[2].gain}) {
    result.grads.push_back(parameter.grad().to_vector<float>());
  }
  result.grads.push_back({static_cast<float>(default_generator().offset())});
  return result;
}

TEST(Recompute, GivesTheBitsOfTheGraphThatIsKept) {
  EXPECT_EQ(train(true), train(false));
}

TEST(Recompute, KeepsOnlyTheInputs) {
  const Var x = Var::parameter(sample_f32({1000}, 1));
  const std::size_t before = current_allocator(kCpu).stats().requested;
  const auto chain = [](const std::vector<Var>& in) {
    Var y = in[0];
    for (int i = 0; i < 10; ++i)
      y = mul(y, y);
    return std::vector<Var>{y};
  };
  const Var kept = chain({x})[0];
  const std::size_t of_kept = current_allocator(kCpu).stats().requested - before;
  const Var again = recompute({x}, chain)[0];
  const std::size_t of_recomputed = current_allocator(kCpu).stats().requested - before - of_kept;
  EXPECT_EQ(of_kept, 10U * 1000U * sizeof(float));
  EXPECT_EQ(of_recomputed, 1000U * sizeof(float));  // the output
}

TEST(Recompute, RunsTheFunctionOnceMoreInTheBackwardPassOnly) {
  const Var x = Var::parameter(sample_f32({3}, 1)), constant = Var(sample_f32({3}, 2));
  int calls = 0;
  const auto twice = [&calls](const std::vector<Var>& in) {
    ++calls;
    return std::vector<Var>{scale(in[0], 2.0)};
  };
  const Var y = recompute({x}, twice)[0];
  EXPECT_EQ(calls, 1);
  backward(sum(y));
  EXPECT_EQ(calls, 2);
  EXPECT_FALSE(recompute({constant}, twice)[0].requires_grad());
  const NoGrad no_grad;
  EXPECT_FALSE(recompute({x}, twice)[0].requires_grad());
  EXPECT_EQ(calls, 4);
}

TEST(Recompute, ReachesParametersOfAFunctionOfConstants) {
  const Var w = Var::parameter(full({2}, 3.0));
  const auto product = [&w](const std::vector<Var>& in) { return std::vector<Var>{mul(in[0], w)}; };
  backward(sum(recompute({full({2}, 2.0)}, product)[0]));
  EXPECT_THAT(w.grad().to_vector<float>(), ElementsAre(2.0F, 2.0F));
}

TEST(Recompute, Nests) {
  const Var x = Var::parameter(full({2}, 1.5));
  const auto square = [](const std::vector<Var>& in) {
    return std::vector<Var>{mul(in[0], in[0])};
  };
  const auto fourth = [&square](const std::vector<Var>& in) {
    return recompute(recompute(in, square), square);
  };
  backward(sum(recompute({x}, fourth)[0]));
  EXPECT_THAT(x.grad().to_vector<float>(), ElementsAre(13.5F, 13.5F));  // 4 x^3
}

TEST(Recompute, RefusesAValueThatIsNoneOfItsInputs) {
  const Var x = Var::parameter(full({2}, 1.5));
  const Var h = scale(x, 2.0), a = mul(h, h);
  const auto reads_h = [h](const std::vector<Var>& in) { return std::vector<Var>{mul(in[0], h)}; };
  const Var y = sum(recompute({a}, reads_h)[0]);
  EXPECT_THAT([&] { backward(y); },
              ThrowsMessage<Error>(HasSubstr("reads a value with a gradient that is none of its")));
  const Var given = sum(recompute(
      {a, h}, [](const std::vector<Var>& in) { return std::vector<Var>{mul(in[0], in[1])}; })[0]);
  x.zero_grad();
  backward(given);
  EXPECT_THAT(x.grad().to_vector<float>(), ElementsAre(54.0F, 54.0F));  // 24 x^2
}

using CudaRecompute = testing::CudaTest;

TEST_F(CudaRecompute, KeepsTheGradientOfA16BitParameterInF32) {
  const Var w = Var::parameter(full({2}, 1.0, DType::bf16, testing::kCuda));
  const Var x = full({2}, 1.0, DType::bf16, testing::kCuda);
  const auto both = [](const std::vector<Var>& in) {
    return std::vector<Var>{add(scale(in[0], 1.0), scale(in[0], 1.0 / 512.0))};
  };
  backward(sum(recompute({w}, both)[0]));
  EXPECT_EQ(w.grad().dtype(), DType::f32);
  EXPECT_EQ(w.grad().to_vector<float>()[0], 1.0F + 1.0F / 512.0F);  // bf16 has no such number
}

TEST(Recompute, GivesNothingToAnOutputThatIsNotUsed) {
  const Var x = Var::parameter(full({2}, 2.0)), y = Var::parameter(full({2}, 5.0));
  const auto both = [](const std::vector<Var>& in) {
    return std::vector<Var>{scale(in[0], 3.0), scale(in[1], 4.0)};
  };
  backward(sum(recompute({x, y}, both)[0]));
  EXPECT_THAT(x.grad().to_vector<float>(), ElementsAre(3.0F, 3.0F));
  EXPECT_FALSE(y.grad());
}

TEST(Recompute, ReportsWhatTheFunctionThrowsAndRestoresTheState) {
  const Var x = Var::parameter(full({2}, 2.0));
  int calls = 0;
  const auto fails_later = [&calls](const std::vector<Var>& in) {
    if (++calls > 1) throw Error("f: no second time");
    return std::vector<Var>{dropout(in[0], 0.5, default_generator())};
  };
  const Var y = sum(recompute({x}, fails_later)[0]);
  const std::uint64_t offset = default_generator().offset();
  const NoGrad no_grad;
  EXPECT_THAT([&] { backward(y); }, ThrowsMessage<Error>(HasSubstr("f: no second time")));
  EXPECT_FALSE(grad_enabled());
  EXPECT_EQ(default_generator().offset(), offset);
}

TEST(Recompute, RefusesAnOutputWithoutAValue) {
  const Var x = Var::parameter(full({2}, 2.0));
  EXPECT_THAT([&] { recompute({x}, [](const auto&) { return std::vector<Var>{Var()}; }); },
              ThrowsMessage<Error>(HasSubstr("recompute: an output")));
}

TEST(ColumnSum, ReachesABiasAcrossTheEdgesOfARecomputedPart) {
  const Tensor x = sample_f32({2, 5, 4}, 1), dout = sample_f32({2, 5, 2}, 2);
  const Var weight = Var::parameter(sample_f32({6, 4}, 3));
  const Var bias = Var::parameter(sample_f32({6}, 4));
  // What runs again is attention, or the layer before it; a node between them watches.
  for (const bool attention_again : {true, false}) {
    bool arrived = false;
    const auto watched = [&arrived](const Var& y) {
      const Var seen = record("watch", {y}, {scale(y.value(), 1.0).value()},
                              [&arrived](std::span<const Tensor> d, Grads& grads) {
                                arrived = static_cast<bool>(grads.column_sum(0));
                                grads.give(0, d[0]);
                              })[0];
      ask_for_column_sum(seen);
      return seen;
    };
    const auto before = [&](const std::vector<Var>& in) {
      return std::vector<Var>{linear(in[0], weight, bias)};
    };
    const auto behind = [](const std::vector<Var>& in) {
      return std::vector<Var>{attention(in[0], 2)};
    };
    const Var input = Var::parameter(x);
    const Var out = attention_again ? recompute({watched(before({input})[0])}, behind)[0]
                                    : behind({recompute({input}, [&](const std::vector<Var>& in) {
                                        return std::vector<Var>{watched(before(in)[0])};
                                      })[0]})[0];
    backward(out, dout);
    EXPECT_TRUE(arrived) << attention_again;
  }
}

}  // namespace
}  // namespace lamina
