// SPDX-License-Identifier: MIT
// Output::recomputed gives the bits of Output::kept in less memory; and what it is made of:
// recompute_output() and SavedTensor.
#include "autograd/saved_tensor.h"

#include "autograd/ops.h"
#include "autograd/recompute.h"
#include "core/storage.h"
#include "nn/nn.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace lamina {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::int64_t kRows = 37, kCols = 136;

struct Type {
  DType rows, stream;
  Device device;

  Var parameter(const Shape& shape, std::uint64_t number, DType dtype) const {
    Generator generator(number);
    return Var::parameter(randn(shape, generator, DType::f32).to(dtype).to(device));
  }
};

/// What the ops below read, and the weights of two readers of their results.
struct Operands {
  explicit Operands(const Type& type)
      : x(type.parameter({kRows, kCols}, 1, type.rows)),
        residual(type.parameter({kRows, kCols}, 2, type.stream)),
        gain(type.parameter({kCols}, 3, type.rows)),
        bias(type.parameter({kCols}, 4, type.rows)),
        square(type.parameter({kCols, kCols}, 5, type.rows)),
        first(type.parameter({5, kCols}, 6, type.rows)),
        second(type.parameter({5, kCols}, 7, type.rows)) {}

  Var x, residual, gain, bias, square, first, second;
};

/// An op whose result can be made again, and what else it returns.
struct Case {
  std::string name;
  std::function<std::vector<Var>(const Operands& of, Output output)> op;
};

std::ostream& operator<<(std::ostream& out, const Case& row) {
  return out << row.name;
}

std::vector<Case> cases() {
  const auto add_and_normalize = [](const Operands& of, double p, Output output) {
    const auto [sum, normalized] =
        add_layer_norm(scale(of.residual, 0.5), scale(of.x, 1.5), of.gain, of.bias, 1e-5, p,
                       &default_generator(), output);
    return std::vector<Var>{normalized, sum};
  };
  return {
      {"layer_norm",
       [](const Operands& of, Output output) {
         return std::vector<Var>{
             layer_norm(scale(of.residual, 0.5), of.gain, of.bias, 1e-5, of.x.dtype(), output)};
       }},
      {"rms_norm",
       [](const Operands& of, Output output) {
         return std::vector<Var>{rms_norm(scale(of.x, 1.5), of.gain, 1e-5, {}, output)};
       }},
      {"gelu",
       [](const Operands& of, Output output) {
         return std::vector<Var>{gelu(scale(of.x, 1.5), GeluForm::erf, output)};
       }},
      {"linear_gelu",
       [](const Operands& of, Output output) {
         return std::vector<Var>{linear_gelu(of.x, of.square, of.bias, output)};
       }},
      {"add_layer_norm",
       [=](const Operands& of, Output output) { return add_and_normalize(of, 0.0, output); }},
      {"dropout_add_layer_norm",
       [=](const Operands& of, Output output) { return add_and_normalize(of, 0.3, output); }},
      {"add_rms_norm",
       [](const Operands& of, Output output) {
         const auto [sum, normalized] =
             add_rms_norm(scale(of.residual, 0.5), scale(of.x, 1.5), of.gain, 1e-5, 0.3,
                          &default_generator(), output);
         return std::vector<Var>{normalized, sum};
       }},
  };
}

/// The loss of two readers of the result, one of them again in the backward pass if asked, and of
/// an op that keeps it.
Var loss_of(const Case& row, const Operands& of, Output output, bool recomputes = false) {
  const std::vector<Var> out = row.op(of, output);
  const auto read = [&of](const std::vector<Var>& in) {
    return std::vector<Var>{linear_gelu(in[0], of.second, {}, Output::recomputed)};
  };
  const Var read_again = (recomputes ? recompute({out[0]}, read) : read({out[0]}))[0];
  Var loss = add(sum(mul(linear(out[0], of.first), read_again)), sum(relu(out[0])));
  if (out.size() > 1) loss = add(loss, sum(convert(mul(out[1], out[1]), loss.dtype())));
  return loss;
}

using Bits = std::vector<std::vector<double>>;

/// Losses and gradients of two backward passes whose gradients are added.
Bits train(const Case& row, const Type& type, Output output, bool recomputes = false) {
  seed(11);
  const Operands of(type);
  Bits bits;
  for (int micro_step = 0; micro_step < 2; ++micro_step) {
    const Var loss = loss_of(row, of, output, recomputes);
    backward(loss);
    bits.push_back(loss.value().to_vector<double>());
  }
  for (const Var& parameter :
       {of.x, of.residual, of.gain, of.bias, of.square, of.first, of.second}) {
    if (parameter.grad()) bits.push_back(parameter.grad().to_vector<double>());
  }
  bits.push_back({static_cast<double>(default_generator().offset())});
  return bits;
}

class RecomputedOutput : public ::testing::TestWithParam<Case> {};

TEST_P(RecomputedOutput, GivesTheBitsOfTheOneThatIsKept) {
  for (const DType stream : {DType::f32, DType::f64}) {
    const Type type{DType::f32, stream, kCpu};
    EXPECT_EQ(train(GetParam(), type, Output::recomputed), train(GetParam(), type, Output::kept));
    EXPECT_EQ(train(GetParam(), type, Output::recomputed, true),
              train(GetParam(), type, Output::kept, true));
  }
}

TEST_P(RecomputedOutput, IsNotInMemoryUntilItIsRead) {
  const Operands of({DType::f32, DType::f32, kCpu});
  const auto requested = [&](Output output) {
    const std::size_t before = current_allocator(kCpu).stats().requested;
    const Var y = linear(GetParam().op(of, output)[0], of.first);
    return current_allocator(kCpu).stats().requested - before;
  };
  EXPECT_EQ(requested(Output::kept) - requested(Output::recomputed),
            std::size_t{kRows} * kCols * sizeof(float));
}

INSTANTIATE_TEST_SUITE_P(Cpu, RecomputedOutput, ::testing::ValuesIn(cases()),
                         ::testing::PrintToStringParamName());

class CudaRecomputedOutput : public testing::CudaTestWith<Case> {};

TEST_P(CudaRecomputedOutput, GivesTheBitsOfTheOneThatIsKept) {
  for (const DType rows : {DType::f32, DType::bf16}) {
    // There the one that is kept is that of the product before it was rounded.
    if (GetParam().name == "linear_gelu" && rows != DType::f32) continue;
    for (const DType stream : {rows, DType::f32}) {
      const Type type{rows, stream, testing::kCuda};
      EXPECT_EQ(train(GetParam(), type, Output::recomputed), train(GetParam(), type, Output::kept));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaRecomputedOutput, ::testing::ValuesIn(cases()),
                         ::testing::PrintToStringParamName());

TEST(RecomputedNorm, LeavesTheSumAsItIs) {
  const Var zero = Var::parameter(full({3, 4}, -0.0)), w = Var::parameter(full({2, 4}, 1.0));
  const auto [sum, normalized] =
      add_layer_norm(zero, zero, {}, {}, 1e-5, 0.0, nullptr, Output::recomputed);
  backward(lamina::sum(linear(normalized, w)));
  for (const float value : sum.value().to_vector<float>())
    EXPECT_TRUE(std::signbit(value));
}

TEST(RecomputedNorm, IsKeptBesideAViewWhichKernelsMayReadInAnotherWay) {
  const Operands of({DType::f32, DType::f32, kCpu});
  const auto requested = [&](std::int64_t begin, Output output) {
    const std::size_t before = current_allocator(kCpu).stats().requested;
    const Var x = slice(of.x, 0, begin, begin + 2), residual = slice(of.residual, 0, 0, 2);
    const Var y = linear(
        add_layer_norm(residual, x, of.gain, {}, 1e-5, 0.0, nullptr, output).normalized, of.first);
    return current_allocator(kCpu).stats().requested - before;
  };
  EXPECT_EQ(requested(1, Output::recomputed), requested(1, Output::kept));
  EXPECT_LT(requested(0, Output::recomputed), requested(0, Output::kept));
}

/// 2 x, which counts how often it is made again.
Var counted(const Var& x, int& calls) {
  const Var y = record("counted", {x}, {scale(x.value(), 2.0).value()},
                       [](std::span<const Tensor> d, Grads& grads) { grads.give(0, d[0]); })[0];
  recompute_output(y, [x = x.value(), &calls] {
    ++calls;
    return scale(x, 2.0).value();
  });
  return y;
}

TEST(SavedTensor, IsMadeOnceForAllItsReadersAndGivenBackAfterTheLast) {
  const Var x = Var::parameter(full({2, 3}, 1.5)), w = Var::parameter(full({4, 3}, 1.0));
  const Var b = Var::parameter(full({4, 3}, 1.0));
  int calls = 0;
  const std::size_t before = current_allocator(kCpu).stats().requested;
  {
    const Var y = counted(x, calls);
    const Var loss = sum(add(linear(y, w), linear(y, b)));
    EXPECT_EQ(calls, 0);
    backward(loss);
    EXPECT_EQ(calls, 1);
  }
  for (const float value : w.grad().to_vector<float>())
    EXPECT_EQ(value, 6.0F);
  EXPECT_EQ(current_allocator(kCpu).stats().requested - before,
            x.value().bytes() + w.value().bytes() + b.value().bytes());  // their gradients
}

TEST(SavedTensor, IsNotMadeForAFrozenWeight) {
  const Var x = Var::parameter(full({2, 3}, 1.5));
  int calls = 0;
  backward(sum(linear(counted(x, calls), full({4, 3}, 1.0))));
  EXPECT_EQ(calls, 0);
  EXPECT_TRUE(x.grad());
}

TEST(SavedTensor, HoldsNothingUnderNoGrad) {
  const Var x = Var::parameter(full({2, 3}, 1.5)), w = Var::parameter(full({4, 3}, 1.0));
  int calls = 0;
  const Var recorded = counted(x, calls);
  const std::size_t before = current_allocator(kCpu).stats().requested;
  {
    const NoGrad no_grad;
    const Var y = linear(gelu(recorded, GeluForm::tanh, Output::recomputed), w);
    EXPECT_FALSE(y.requires_grad());
    EXPECT_EQ(current_allocator(kCpu).stats().requested - before, y.value().bytes());
  }
  EXPECT_EQ(calls, 0);
}

TEST(SavedTensor, LeavesNothingBehindInAVarThatLivesOn) {
  const Var x = Var::parameter(full({2, 3}, 1.5)), w = Var::parameter(full({4, 3}, 1.0));
  const Var h = scale(x, 2.0), y = gelu(h, GeluForm::tanh, Output::recomputed);
  backward(sum(linear(y, w)));
  EXPECT_EQ(h.value().storage().use_count(), 1);
}

TEST(SavedTensor, ReportsWhatMakingItThrows) {
  const Var x = Var::parameter(full({2, 3}, 1.5)), w = Var::parameter(full({4, 3}, 1.0));
  const Var y = record("op", {x}, {full({2, 3}, 3.0)},
                       [](std::span<const Tensor> d, Grads& grads) { grads.give(0, d[0]); })[0];
  recompute_output(y, []() -> Tensor { throw Error("op: no second time"); });
  EXPECT_THAT([&] { backward(sum(linear(y, w))); },
              ThrowsMessage<Error>(HasSubstr("op: no second time")));
}

TEST(RecomputedOutputOfLayers, GivesTheBitsOfTheOneThatIsKept) {
  struct Net : Layer<Net> {
    explicit Net(Output output) : output(output) {}

    const Output output;
    nn::RmsNorm& norm = add<nn::RmsNorm>("norm", kCols, nn::RmsNormOptions{.output = output});
    nn::Mlp& mlp = add<nn::Mlp>("mlp", kCols, nn::MlpOptions{.gelu = output});
    nn::LayerNorm& last = add<nn::LayerNorm>("last", kCols, nn::LayerNormOptions{.output = output});
    nn::Linear& head = add<nn::Linear>("head", kCols, 3);

    Var forward(const Var& x) { return head(last(mlp(norm(x)))); }
  };

  Bits bits;
  std::vector<std::size_t> live;
  for (const Output output : {Output::kept, Output::recomputed}) {
    seed(3);
    Net net(output);
    Generator generator(4);
    const Tensor x = randn({kRows, kCols}, generator);
    const std::size_t before = current_allocator(kCpu).stats().requested;
    const Var loss = sum(net(x));
    live.push_back(current_allocator(kCpu).stats().requested - before);
    backward(loss);
    std::vector<double>& all = bits.emplace_back();
    for (const Var* parameter : net.parameters()) {
      for (const double value : parameter->grad().to_vector<double>())
        all.push_back(value);
    }
  }
  EXPECT_EQ(bits[0], bits[1]);
  EXPECT_EQ(live[0] - live[1], (1 + 4 + 1) * std::size_t{kRows} * kCols * sizeof(float));
}

}  // namespace
}  // namespace lamina
