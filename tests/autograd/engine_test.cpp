// SPDX-License-Identifier: MIT
// record(), backward() and the life of gradients, with real ops and with ops made for the purpose.
#include "autograd/ops.h"
#include "autograd/recompute.h"
#include "core/caching_allocator.h"
#include "core/storage.h"
#include "tests/support/cuda_case.h"
#include "tests/support/error_of.h"
#include "tests/support/fake_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace lamina {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

Tensor vector_of(std::vector<double> values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return from_vector(values, {count});
}

Tensor sample(const Shape& shape, std::uint64_t seed) {
  Generator generator(seed);
  return randn(shape, generator, DType::f64);
}

std::vector<double> grad_of(const Var& x) {
  return x.grad().to_vector<double>();
}

/// The identity, which calls `observe` in its backward pass.
Var probe(const Var& x, std::function<void(const Tensor& d)> observe) {
  return record("probe", {x}, {scale(x.value(), 1.0).value()},
                [observe](std::span<const Tensor> d, Grads& grads) {
                  observe(d[0]);
                  grads.give(0, d[0]);
                })[0];
}

/// So that fresh buffers of a few numbers hold NaN.
void poison_fresh_memory() {
  for (std::vector<Tensor> poison; poison.size() < 16;) {
    poison.push_back(full({4}, std::numeric_limits<double>::quiet_NaN(), DType::f64));
  }
}

/// The text of the error when the gradient of `x` is what `write` makes of it.
std::string error_of_gradient(const Var& x, std::function<void(Grads& grads)> write) {
  const Var y = record("careless", {x, Var(zeros({}))}, {zeros({}, DType::f64)},
                       [write](std::span<const Tensor>, Grads& grads) { write(grads); })[0];
  return error_of([&] { backward(y); });
}

TEST(Backward, AddsUpOverAllPathsOfADiamond) {
  const Var x = Var::parameter(vector_of({2.0, -1.0}));
  const Var y = scale(x, 3.0);
  backward(sum(mul(y, y) + y));  // 9 x^2 + 3 x
  EXPECT_THAT(grad_of(x), ElementsAre(39.0, -15.0));
}

TEST(Backward, HandlesOneValueAsBothInputsOfAnOp) {
  const Var x = Var::parameter(vector_of({3.0}));
  backward(sum(mul(scale(x, 1.0), x) + mul(x, x)));
  EXPECT_THAT(grad_of(x), ElementsAre(12.0));
  const Var y = Var::parameter(vector_of({3.0}));
  const Var z = scale(y, 1.0);
  backward(sum(mul(z, z) + add(z, z)));
  EXPECT_THAT(grad_of(y), ElementsAre(8.0));
}

TEST(Backward, AddsUpWhenOneKernelWritesTwoSlotsOfOneValue) {
  // Weight and bias are one value: both slots are open when the kernel runs.
  const Tensor x = sample({3, 4}, 1), start = sample({4}, 2);
  const Var tied = Var::parameter(start), source = Var::parameter(start);
  const Var weight = Var::parameter(start), bias = Var::parameter(start);
  const Var computed = scale(source, 1.0);
  backward(sum(layer_norm(x, tied, tied)));
  const Var y = sum(layer_norm(x, computed, computed));
  poison_fresh_memory();
  backward(y);
  backward(sum(layer_norm(x, weight, bias)));
  const auto dweight = grad_of(weight), dbias = grad_of(bias);
  const auto dtied = grad_of(tied), dcomputed = grad_of(source);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(dtied[i], dweight[i] + dbias[i], 1e-12);
    EXPECT_NEAR(dcomputed[i], dweight[i] + dbias[i], 1e-12);
  }
}

TEST(Backward, AddsToTheGradientOfEarlierPasses) {
  const Var x = Var::parameter(vector_of({1.0, 2.0}));
  backward(sum(mul(x, x)));
  backward(sum(mul(x, x)));
  EXPECT_THAT(grad_of(x), ElementsAre(4.0, 8.0));
}

TEST(Backward, OverwritesAfterZeroGrad) {
  const Var x = Var::parameter(vector_of({1.0, 2.0}));
  backward(sum(mul(x, x)));
  const void* buffer = x.grad().data();
  x.grad().fill(std::numeric_limits<double>::quiet_NaN());
  x.zero_grad();
  EXPECT_FALSE(x.grad());
  backward(sum(scale(x, 5.0)));
  EXPECT_THAT(grad_of(x), ElementsAre(5.0, 5.0));
  EXPECT_EQ(x.grad().data(), buffer);
}

TEST(Backward, WritesToTheBufferOfAParameter) {
  const Tensor flat_grads = full({6}, std::numeric_limits<double>::quiet_NaN(), DType::f64);
  const Var x = Var::parameter(vector_of({1.0, 2.0}));
  x.set_grad_buffer(flat_grads.slice(0, 4, 6));
  EXPECT_FALSE(x.grad());
  backward(sum(mul(x, x)));
  EXPECT_EQ(flat_grads.to_vector<double>()[4], 2.0);
  EXPECT_EQ(flat_grads.to_vector<double>()[5], 4.0);
  EXPECT_THROW(x.set_grad_buffer(zeros({3}, DType::f64)), ShapeError);
  EXPECT_THROW(x.set_grad_buffer(zeros({2}, DType::f32)), DTypeError);
}

TEST(Backward, KeepsAGivenTensorApartFromLaterSums) {
  // add() hands one tensor to both inputs. The gradient of b is then added to; that of a, still
  // waiting in the same memory, must not change.
  const Var a = Var::parameter(vector_of({1.0, 1.0})), b = Var::parameter(vector_of({1.0, 1.0}));
  const Var early = scale(a, 1.0), late = scale(b, 1.0);
  const Var twice = mul(late, full({2}, 10.0, DType::f64));  // runs between add and the two scales
  backward(sum(twice) + sum(add(early, late)));
  EXPECT_THAT(grad_of(a), ElementsAre(1.0, 1.0));
  EXPECT_THAT(grad_of(b), ElementsAre(11.0, 11.0));
}

TEST(Backward, LeavesTheGradientOfTheCallerAlone) {
  const Var x = Var::parameter(sample({3, 4}, 1)), w = Var::parameter(sample({4, 4}, 2));
  const Tensor grad = full({3, 4}, 1.0, DType::f64);
  backward(linear_gelu(x, w), grad);  // would run in place on a gradient of its own
  EXPECT_EQ(grad.to_vector<double>(), std::vector<double>(12, 1.0));
}

TEST(Backward, RunsAChainOfHundredThousandNodes) {
  const Var x = Var::parameter(vector_of({1.0}));
  Var y = x;
  for (int i = 0; i < 100'000; ++i)
    y = y + x;
  backward(y);
  EXPECT_THAT(grad_of(x), ElementsAre(100'001.0));
}

TEST(Record, DropsAChainOfHundredThousandNodesWithoutBackward) {
  const Var x = Var::parameter(vector_of({1.0}));
  Var y = x;
  for (int i = 0; i < 100'000; ++i)
    y = y + x;
  y = {};
  EXPECT_EQ(x.state()->pending_uses, 0);
}

TEST(Record, DropsAGraphWithSharedNodesOnce) {
  const Var x = Var::parameter(vector_of({1.0, 2.0}));
  {
    const std::vector<Var> parts = split(scale(x, 2.0), 2);
    const Var y = mul(parts[0], parts[1]), z = add(parts[0], y);
  }
  EXPECT_EQ(x.state()->pending_uses, 0);
}

TEST(Backward, FreesTheCapturesOfANodeBeforeTheNextOneRuns) {
  const Var x = Var::parameter(vector_of({1.0}));
  const Tensor captured = zeros({1000});
  std::weak_ptr<Storage> storage = captured.storage();
  bool was_alive = true;
  Var y = probe(x, [&](const Tensor&) { was_alive = !storage.expired(); });
  y = record(
      "holder", {y}, {scale(y.value(), 1.0).value()},
      [saved = captured](std::span<const Tensor> d, Grads& grads) { grads.give(0, d[0]); })[0];
  const_cast<Tensor&>(captured) = {};
  EXPECT_FALSE(storage.expired());
  backward(y);
  EXPECT_FALSE(was_alive);
  EXPECT_TRUE(storage.expired());
}

TEST(Backward, KeepsNoMoreThanTwoGradientsOfAChain) {
  // 50 layers of 64 KiB: gradients go as soon as they are consumed, activations when their node
  // ran.
  const Var x = Var::parameter(full({8192}, 0.5, DType::f64));
  Allocator& allocator = current_allocator(kCpu);
  const std::size_t before = allocator.stats().live;
  {
    Var y = x;
    for (int i = 0; i < 50; ++i)
      y = silu(y);
    const Var loss = sum(y);
    y = {};
    const std::size_t forward = allocator.stats().live;
    allocator.reset_peaks();
    backward(loss);
    EXPECT_LE(allocator.stats().peak_live, forward + 3 * 65'536 + 16'384);
  }
  x.set_grad_buffer(zeros({8192}, DType::f64));
  EXPECT_LE(allocator.stats().live, before + 65'536 + 4096);
}

TEST(Backward, LetsCrossEntropyTakeTheMemoryOfTheLogits) {
  const Var x = Var::parameter(sample({64, 128}, 1));
  const Tensor targets = zeros({64}, DType::i32);
  const void* logits_memory = nullptr;
  const void* grad_memory = nullptr;
  const auto loss_of = [&](bool keeps_logits, Var& kept) {
    Var logits = probe(x, [&](const Tensor& d) { grad_memory = d.data(); });
    logits_memory = logits.value().data();
    if (keeps_logits) kept = logits;
    return cross_entropy(logits, targets);
  };
  Var kept;
  backward(loss_of(false, kept));
  EXPECT_EQ(grad_memory, logits_memory);
  const auto in_place = grad_of(x);
  x.zero_grad();
  const Var loss = loss_of(true, kept);
  const auto logits_before = kept.value().to_vector<double>();
  backward(loss);
  EXPECT_NE(grad_memory, logits_memory);
  EXPECT_EQ(kept.value().to_vector<double>(), logits_before);
  EXPECT_EQ(grad_of(x), in_place);
}

TEST(Backward, LetsCrossEntropyWriteOverLogitsThatItIsGiven) {
  const Var x = Var::parameter(sample({64, 128}, 1));
  const Tensor targets = zeros({64}, DType::i32);
  for (const double factor : {1.0, -0.25}) {
    x.zero_grad();
    backward(scale(cross_entropy(x, targets), factor));
    const auto expected = grad_of(x);
    for (const bool is_shared : {false, true}) {
      x.zero_grad();
      const void* grad_memory = nullptr;
      Var logits = probe(x, [&](const Tensor& d) { grad_memory = d.data(); });
      const void* const logits_memory = logits.value().data();
      const auto before = logits.value().to_vector<double>();
      const Tensor kept = is_shared ? logits.value() : Tensor();
      const Var loss = cross_entropy(std::move(logits), targets);
      EXPECT_FALSE(logits);  // NOLINT(bugprone-use-after-move): it says that it is empty then
      backward(scale(loss, factor));
      EXPECT_EQ(grad_memory == logits_memory, !is_shared);
      EXPECT_EQ(grad_of(x), expected) << "shared " << is_shared << ", factor " << factor;
      EXPECT_TRUE(!is_shared || kept.to_vector<double>() == before);
    }
  }
}

TEST(Backward, ThrowsWhenTheGraphWasFreed) {
  const Var x = Var::parameter(vector_of({1.0}));
  const Var loss = sum(mul(x, x));
  backward(loss);
  EXPECT_THROW(backward(loss), Error);
  EXPECT_THAT(grad_of(x), ElementsAre(2.0));
}

TEST(Backward, ThrowsWhenAPartOfTheGraphWasFreed) {
  const Var x = Var::parameter(vector_of({3.0}));
  const Var shared = mul(x, x);
  const Var first = sum(shared), second = sum(scale(shared, 2.0));
  backward(first);
  EXPECT_THROW(backward(second), Error);
  EXPECT_THAT(grad_of(x), ElementsAre(6.0));
  EXPECT_FALSE(shared.grad()) << "a gradient that nobody will consume was left behind";
}

TEST(Backward, RefusesALossThatCannotBeDifferentiated) {
  const Var x = Var::parameter(vector_of({1.0, 2.0}));
  EXPECT_THROW(backward(mul(x, x)), ShapeError);
  EXPECT_THROW(backward(sum(vector_of({1.0}))), Error);
  EXPECT_THROW(backward(Var()), Error);
  EXPECT_THROW(backward(mul(x, x), zeros({3}, DType::f64)), ShapeError);
}

TEST(Backward, ForgetsAGradientThatItRefused) {
  const Var x = Var::parameter(vector_of({1.0}));
  const Var y = scale(x, 2.0);
  poison_fresh_memory();
  EXPECT_THAT(error_of([&] { backward(y, zeros({1}, DType::i32)); }),
              HasSubstr("backward: gradient has dtype i32, expected f32 or f64"));
  EXPECT_THROW(backward(x, zeros({1}, DType::i32)), DTypeError);
  EXPECT_FALSE(y.grad());
  EXPECT_FALSE(x.grad());
  backward(y);
  EXPECT_THAT(grad_of(x), ElementsAre(2.0));
}

TEST(Backward, MayBeTriedAgainWhenThereWasNoMemory) {
  const Var x = Var::parameter(vector_of({1.0}));
  const Tensor grad = vector_of({3.0});
  {
    testing::FakeDevice device(0);
    CachingAllocator none(device);
    const AllocatorScope scope(kCpu, none);
    EXPECT_THROW(backward(x, grad), OutOfMemory);
  }
  EXPECT_FALSE(x.grad());
  poison_fresh_memory();
  backward(x, grad);
  EXPECT_THAT(grad_of(x), ElementsAre(3.0));
}

TEST(Backward, StartsAtAParameter) {
  const Var x = Var::parameter(vector_of({1.0}));
  backward(x);
  EXPECT_THAT(grad_of(x), ElementsAre(1.0));
}

TEST(Backward, KeepsTheGradientOfParametersOnly) {
  const Var x = Var::parameter(vector_of({1.0}));
  const Var y = scale(x, 2.0);
  backward(sum(y));
  EXPECT_FALSE(y.grad());
  EXPECT_TRUE(x.grad());
}

TEST(Backward, TiesAParameterThatTwoLayersUse) {
  // As in a language model: the embedding table is the weight of the last layer.
  const Tensor tokens = from_vector<std::int32_t>({2, 0, 2}, {3}), start = sample({4, 5}, 3);
  const Var tied = Var::parameter(start), table = Var::parameter(start),
            head = Var::parameter(start);
  backward(cross_entropy(linear(embedding(tokens, tied), tied), tokens));
  backward(cross_entropy(linear(embedding(tokens, table), head), tokens));
  const auto both = grad_of(tied), first = grad_of(table), second = grad_of(head);
  for (std::size_t i = 0; i < both.size(); ++i)
    EXPECT_NEAR(both[i], first[i] + second[i], 1e-12);
}

TEST(Backward, WorksOnAGraphThatTwoThreadsRecorded) {
  const Var x = Var::parameter(vector_of({2.0}));
  Var y = x;
  for (int i = 0; i < 10; ++i)
    y = scale(y, 1.0);
  Var loss;
  std::thread([&] { loss = sum(mul(scale(y, 2.0), y)); }).join();
  backward(loss);
  EXPECT_THAT(grad_of(x), ElementsAre(8.0));
}

TEST(NoGrad, RecordsNothingWhileItLives) {
  const Var x = Var::parameter(vector_of({1.0}));
  {
    const NoGrad guard;
    EXPECT_FALSE(grad_enabled());
    EXPECT_FALSE(mul(x, x).requires_grad());
    const NoGrad inner;
  }
  EXPECT_TRUE(grad_enabled());
  EXPECT_TRUE(mul(x, x).requires_grad());
  EXPECT_EQ(x.state()->pending_uses, 0);
}

TEST(Record, ReturnsConstantsAndDropsTheFunctionForConstants) {
  const auto captured = std::make_shared<int>(1);
  const auto outputs = record("constant", {Var(vector_of({1.0}))}, {vector_of({2.0})},
                              [captured](std::span<const Tensor>, Grads&) {});
  EXPECT_FALSE(outputs[0].requires_grad());
  EXPECT_EQ(captured.use_count(), 1);
}

TEST(Record, GivesAnEmptyHandleForAnOutputWithoutGradient) {
  const Var x = Var::parameter(vector_of({1.0}));
  bool first_is_empty = false, second_is_empty = true;
  const auto outputs = record("two", {x}, {vector_of({1.0}), vector_of({2.0})},
                              [&](std::span<const Tensor> d, Grads& grads) {
                                first_is_empty = !d[0];
                                second_is_empty = !d[1];
                                grads.give(0, d[1]);
                              });
  backward(sum(outputs[1]));
  EXPECT_TRUE(first_is_empty);
  EXPECT_FALSE(second_is_empty);
}

TEST(Grads, RefuseWhatIsNoGradientOfTheInput) {
  const Var pair = Var::parameter(vector_of({1.0, 2.0}));
  const Var scalar = scale(Var::parameter(full({}, 1.0)), 1.0);
  EXPECT_THAT(error_of_gradient(pair, [](Grads& grads) { grads.give(0, vector_of({1.0})); }),
              HasSubstr("backward: gradient has shape [1], expected [2]"));
  EXPECT_THAT(error_of_gradient(scalar, [](Grads& grads) { grads.give(0, Tensor()); }),
              HasSubstr("backward: gradient is an empty handle"));
  EXPECT_THAT(error_of_gradient(scalar, [](Grads& grads) { grads.give(0, zeros({}, DType::i32)); }),
              HasSubstr("backward: gradient has dtype i32"));
  EXPECT_THAT(
      error_of_gradient(scalar, [](Grads& grads) { grads.dtype(1); }),
      HasSubstr("careless: the dtype of the gradient of input 1 is asked for, expected one"));
  for (const int i : {-1, 2}) {
    EXPECT_THAT(error_of_gradient(scalar, [i](Grads& grads) { grads.slot(i); }),
                HasSubstr(cat("careless: the gradient of input ", i, " is asked for, expected an ",
                              "input below 2")));
    EXPECT_THAT(
        error_of_gradient(scalar, [i](Grads& grads) { grads.column_sum(i); }),
        HasSubstr(cat("careless: the column sum of output ", i, " is asked for, expected")));
  }
}

using CudaGrads = testing::CudaTest;

TEST_F(CudaGrads, RefuseAGradientOnAnotherDevice) {
  const Var x = Var::parameter(zeros({2}, DType::f32, testing::kCuda));
  EXPECT_THAT(error_of_gradient(x, [](Grads& grads) { grads.give(0, zeros({2})); }),
              HasSubstr("backward: gradient is on cpu, expected cuda:0"));
}

TEST(OnGradReady, IsCalledOnceWithTheCompleteGradient) {
  const Var w = Var::parameter(vector_of({2.0}));
  std::vector<double> seen;
  w.on_grad_ready([&](const Tensor& grad) { seen.push_back(grad.item<double>()); });
  backward(sum(mul(mul(w, w), w)));  // three uses
  EXPECT_THAT(seen, ElementsAre(12.0));
  w.zero_grad();
  backward(sum(w));
  EXPECT_THAT(seen, ElementsAre(12.0, 1.0));
}

TEST(OnGradReady, IsCalledInTheOrderInWhichGradientsAreComplete) {
  const Var a = Var::parameter(vector_of({1.0})), b = Var::parameter(vector_of({1.0}));
  const Var c = Var::parameter(vector_of({1.0}));
  std::string order;
  a.on_grad_ready([&](const Tensor&) { order += "a"; });
  b.on_grad_ready([&](const Tensor&) { order += "b"; });
  c.on_grad_ready([&](const Tensor&) { order += "c"; });
  Var y = probe(mul(a, b), [&](const Tensor&) { order += "1"; });
  y = probe(mul(y, c), [&](const Tensor&) { order += "2"; });
  backward(mul(y, b));  // b is used early and late, so it is complete at the end
  EXPECT_EQ(order, "2c1ab");
}

TEST(OnGradReady, IsCalledAtTheEndWhenAnotherGraphReadsTheParameterToo) {
  const Var w = Var::parameter(vector_of({2.0}));
  int calls = 0;
  w.on_grad_ready([&](const Tensor&) { ++calls; });
  const Var other = mul(w, w);
  backward(sum(mul(w, w)));
  EXPECT_EQ(calls, 1);
}

TEST(ColumnSum, ReachesTheBiasOfTheLinearLayerBefore) {
  const Tensor x = sample({6, 4}, 1), residual = sample({6, 3}, 2), scale_start = sample({3}, 4);
  const auto run = [&](bool detours) {
    const Var weight = Var::parameter(sample({3, 4}, 3)),
              bias = Var::parameter(zeros({3}, DType::f64));
    const Var gain = Var::parameter(scale_start);
    bool arrived = false;
    Var y = linear(x, weight, bias);
    // A node that watches the by-product and hands it on, or holds it back.
    y = record("watch", {y}, {scale(y.value(), 1.0).value()},
               [&arrived, detours](std::span<const Tensor> d, Grads& grads) {
                 arrived = static_cast<bool>(grads.column_sum(0));
                 grads.give(0, d[0], detours ? Tensor() : grads.column_sum(0));
               })[0];
    const auto [total, normalized] = add_layer_norm(residual, y, gain, {});
    backward(sum(mul(normalized, residual) + total));
    EXPECT_TRUE(arrived);
    return grad_of(bias);
  };
  const auto with = run(false), without = run(true);
  for (std::size_t i = 0; i < with.size(); ++i)
    EXPECT_NEAR(with[i], without[i], 1e-12);
}

TEST(ColumnSum, IsMadeByAttentionWhenItIsAskedFor) {
  const Tensor x = sample({2, 5, 4}, 1), dout = sample({2, 5, 2}, 2);
  const Var weight = Var::parameter(sample({6, 4}, 3));
  const Var bias = Var::parameter(sample({6}, 4));
  for (const bool asks : {false, true}) {
    bool arrived = false;
    const Var qkv = linear(x, weight, bias);
    const Var seen = record("watch", {qkv}, {scale(qkv.value(), 1.0).value()},
                            [&arrived](std::span<const Tensor> d, Grads& grads) {
                              arrived = static_cast<bool>(grads.column_sum(0));
                              if (arrived) {
                                const auto gradient = d[0].to_vector<double>();
                                const auto sums = grads.column_sum(0).to_vector<double>();
                                for (std::size_t c = 0; c < sums.size(); ++c) {
                                  double expected = 0.0;
                                  for (std::size_t i = c; i < gradient.size(); i += sums.size())
                                    expected += gradient[i];
                                  EXPECT_NEAR(sums[c], expected, 1e-12);
                                }
                              }
                              grads.give(0, d[0]);
                            })[0];
    if (asks) ask_for_column_sum(seen);
    backward(attention(reshape(seen, {2, 5, 6}), 2), dout);
    EXPECT_EQ(arrived, asks);
  }
}

TEST(ColumnSum, IsAskedForByALinearLayerWithABias) {
  const Var weight = Var::parameter(sample({3, 4}, 3));
  const Var bias = Var::parameter(sample({3}, 4));
  const auto wanted = [](const Var& y) {
    bool result = false;
    const Var seen = record("watch", {y}, {scale(y.value(), 1.0).value()},
                            [&result](std::span<const Tensor> d, Grads& grads) {
                              result = grads.wants_column_sum(0);
                              grads.give(0, d[0]);
                            })[0];
    backward(sum(seen));
    return result;
  };
  const Tensor x = sample({6, 4}, 1);
  EXPECT_TRUE(wanted(linear(x, weight, bias)));
  EXPECT_TRUE(wanted(reshape(linear(x, weight, bias), {2, 3, 3})));
  EXPECT_FALSE(wanted(reshape(linear(x, weight, bias), {18})));
  EXPECT_FALSE(wanted(linear(x, weight, {})));
  EXPECT_FALSE(wanted(linear(x, weight, bias.value())));
  EXPECT_FALSE(wanted(bias));
}

TEST(ColumnSum, IsDroppedWhenMoreIsAddedToTheGradient) {
  const Tensor x = sample({6, 4}, 1), residual = sample({6, 3}, 2);
  const Var weight = Var::parameter(sample({3, 4}, 3)),
            bias = Var::parameter(zeros({3}, DType::f64));
  const Var y = linear(x, weight, bias);
  Tensor dy;
  Var seen = record("watch", {y}, {scale(y.value(), 1.0).value()},
                    [&dy](std::span<const Tensor> d, Grads& grads) {
                      EXPECT_FALSE(grads.column_sum(0));
                      dy = d[0];
                      grads.give(0, d[0], grads.column_sum(0));
                    })[0];
  const Var square = sum(mul(seen, seen));  // recorded earlier, so its gradient comes second
  const auto [total, normalized] = add_layer_norm(residual, seen, {}, {});
  backward(sum(mul(normalized, residual)) + square);
  const auto values = dy.to_vector<double>(), dbias = grad_of(bias);
  for (std::size_t c = 0; c < 3; ++c) {
    double expected = 0.0;
    for (std::size_t r = 0; r < 6; ++r)
      expected += values[r * 3 + c];
    EXPECT_NEAR(dbias[c], expected, 1e-12);
  }
}

TEST(Parameter, HasAnF32GradientWhenItIs16Bit) {
  const Var w = Var::parameter(zeros({4}, DType::bf16));
  EXPECT_EQ(w.state()->dtype, DType::f32);
  EXPECT_THROW(Var::parameter(zeros({4}, DType::i32)), DTypeError);
}

TEST(Parameter, ForgetsTheGradientWhenTheValueIsReplaced) {
  Var w = Var::parameter(vector_of({1.0, 2.0}));
  backward(sum(mul(w, w)));
  w.set_value(vector_of({3.0, 4.0}));
  EXPECT_FALSE(w.grad());
  backward(sum(mul(w, w)));
  EXPECT_THAT(grad_of(w), ElementsAre(6.0, 8.0));
  EXPECT_THROW(w.set_value(vector_of({1.0})), ShapeError);
  EXPECT_THROW(w.set_value(zeros({2}, DType::i32)), DTypeError);
  w.set_value(zeros({2}, DType::f32));
  backward(sum(w));
  EXPECT_EQ(w.grad().dtype(), DType::f32);
}

TEST(Parameter, RefusesGradientFunctionsOnOtherValues) {
  const Var y = scale(Var::parameter(vector_of({1.0})), 1.0);
  EXPECT_THROW(y.zero_grad(), Error);
  EXPECT_THROW(y.on_grad_ready([](const Tensor&) {}), Error);
  EXPECT_THROW(Var(vector_of({1.0})).zero_grad(), Error);
}

TEST(Backward, ForgetsWhatAFailedOpHadWritten) {
  const Var p = Var::parameter(full({2}, 1.0, DType::f64));
  const Var middle = scale(p, 1.0);
  const Var failing = record("failing", {middle}, {middle.value().clone()},
                             [](std::span<const Tensor>, Grads& grads) {
                               grads.slot(0).dst.fill(1000.0);
                               throw Error("failing: out of luck");
                             })[0];
  EXPECT_THROW(backward(sum(failing)), Error);
  EXPECT_FALSE(p.grad());
  backward(sum(middle));
  EXPECT_EQ(p.grad().to_vector<double>(), std::vector<double>(2, 1.0));
}

TEST(Matmul, AcceptsABatchOfNone) {
  const Var a = Var::parameter(zeros({0, 2, 3}, DType::f64));
  const Var y = matmul(a, zeros({0, 3, 4}, DType::f64));
  EXPECT_EQ(y.shape(), (Shape{0, 2, 4}));
  backward(sum(y));
  EXPECT_EQ(a.grad().shape(), (Shape{0, 2, 3}));
}

}  // namespace
}  // namespace lamina
