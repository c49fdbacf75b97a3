// SPDX-License-Identifier: MIT
// Every op of autograd/ops.h: forward against a naive reference, gradient against differences, the
// other dtypes and CUDA against f64, gradients that are added, strided inputs, and error texts.
#include "autograd/gradcheck.h"
#include "core/caching_allocator.h"
#include "core/storage.h"
#include "tests/support/cuda_case.h"
#include "tests/support/op_cases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

namespace lamina::testing {
namespace {

constexpr int kSmallCalls = 100;
constexpr int kLargeCalls = 3;

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const OpCase& row : op_cases())
    names.emplace_back(row.name);
  return names;
}

const OpCase& find_op(const std::string& name) {
  for (const OpCase& row : op_cases()) {
    if (row.name == name) return row;
  }
  throw Error("no row for " + name);
}

OpCall small_call(const OpCase& op, int index) {
  Sampler random(index, Sampler::Size::small);
  return op.make(random);
}

OpCall large_call(const OpCase& op, int index) {
  Sampler random(1000 + index, Sampler::Size::large);
  return op.make(random);
}

double largest(const Values& values) {
  double result = 1.0;
  for (const double value : values)
    result = std::max(result, std::abs(value));
  return result;
}

::testing::AssertionResult near(const Values& actual, const Values& expected, double tolerance) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure()
           << actual.size() << " elements, expected " << expected.size();
  }
  const double limit = tolerance * largest(expected);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!(std::abs(actual[i] - expected[i]) <= limit)) {
      return ::testing::AssertionFailure() << "element " << i << " is " << actual[i]
                                           << ", expected " << expected[i] << " within " << limit;
    }
  }
  return ::testing::AssertionSuccess();
}

/// One value that depends on all outputs, each with other weights.
Var combined(const std::vector<Var>& outputs) {
  if (outputs.size() == 1) return outputs[0];
  Generator generator(3);
  Var result;
  for (const Var& output : outputs) {
    const Tensor weights = uniform(output.shape(), 0.5, 1.5, generator, DType::f64);
    const Var term = output * Var(weights.to(output.dtype()).to(output.device()));
    result = result ? result + term : term;
  }
  return result;
}

struct Results {
  std::vector<Values> outputs, grads;
};

/// Forward and gradients at `inputs`, rounded to `dtype` first, on `device` in `compute`. `wrap`
/// makes the op's operands from the parameters, `uses` is how often the op is applied.
Results evaluate(const OpCall& call, DType dtype, DType compute, Device device,
                 const std::function<Var(const Var&)>& wrap = {}, int uses = 1) {
  std::vector<Var> parameters, operands;
  for (const Tensor& input : call.inputs) {
    parameters.push_back(Var::parameter(input.to(dtype).to(compute).to(device)));
    operands.push_back(wrap ? wrap(parameters.back()) : parameters.back());
  }
  Results results;
  Generator generator(11);
  const PhiloxKey key = generator.next();
  Var total;
  for (int use = 0; use < uses; ++use) {
    const std::vector<Var> outputs = call.op(operands);
    results.outputs.clear();
    for (const Var& output : outputs)
      results.outputs.push_back(output.value().to_vector<double>());
    const Var out = combined(outputs);
    Values weights(static_cast<std::size_t>(out.value().elements()));
    for (std::size_t i = 0; i < weights.size(); ++i)
      weights[i] = 2.0 * uniform_at(key, i) - 1.0;
    const Tensor grad = from_vector(weights, out.shape()).to(dtype).to(out.dtype()).to(device);
    if (uses == 1) {
      backward(out, grad);
      break;
    }
    const Var term = sum(out * Var(grad));
    total = total ? total + term : term;
  }
  if (total) backward(total);
  for (const Var& parameter : parameters) {
    const Tensor grad = parameter.grad();  // none when the outputs in use do not depend on it
    results.grads.push_back(grad ? grad.to_vector<double>()
                                 : Values(static_cast<std::size_t>(parameter.value().elements())));
  }
  return results;
}

void expect_close(const Results& actual, const Results& expected, double tolerance,
                  const std::string& text) {
  for (std::size_t i = 0; i < expected.outputs.size(); ++i) {
    EXPECT_TRUE(near(actual.outputs[i], expected.outputs[i], tolerance))
        << text << ", output " << i;
  }
  for (std::size_t i = 0; i < expected.grads.size(); ++i) {
    EXPECT_TRUE(near(actual.grads[i], expected.grads[i], tolerance)) << text << ", gradient " << i;
  }
}

class Op : public ::testing::TestWithParam<std::string> {
 protected:
  const OpCase& op() const { return find_op(GetParam()); }
};

TEST_P(Op, ForwardMatchesTheReference) {
  for (int i = 0; i < kSmallCalls + kLargeCalls; ++i) {
    const OpCall call = i < kSmallCalls ? small_call(op(), i) : large_call(op(), i);
    std::vector<Var> inputs(call.inputs.begin(), call.inputs.end());
    std::vector<Values> values;
    for (const Tensor& input : call.inputs)
      values.push_back(input.to_vector<double>());
    const std::vector<Var> outputs = call.op(inputs);
    const std::vector<Values> expected = call.reference(values);
    ASSERT_EQ(outputs.size(), expected.size());
    for (std::size_t k = 0; k < expected.size(); ++k) {
      ASSERT_TRUE(near(outputs[k].value().to_vector<double>(), expected[k], 1e-12))
          << call.text << ", output " << k;
    }
  }
}

TEST_P(Op, GradientMatchesDifferences) {
  for (int i = 0; i < kSmallCalls; ++i) {
    const OpCall call = small_call(op(), i);
    const GradcheckResult result =
        gradcheck([&](std::span<const Var> in) { return combined(call.op(in)); }, call.inputs);
    ASSERT_TRUE(result) << call.text << ": " << result.message;
  }
}

TEST_P(Op, FloatAgreesWithDouble) {
  for (int i = 0; i < 20 + kLargeCalls; ++i) {
    const OpCall call = i < 20 ? small_call(op(), i) : large_call(op(), i);
    expect_close(evaluate(call, DType::f32, DType::f32, kCpu),
                 evaluate(call, DType::f32, DType::f64, kCpu), 3e-5, call.text);
  }
}

TEST_P(Op, AddsToTheGradientOfAParameterUsedTwice) {
  for (int i = 0; i < 20; ++i) {
    const OpCall call = small_call(op(), i);
    Results once = evaluate(call, DType::f64, DType::f64, kCpu);
    for (Values& grad : once.grads) {
      for (double& value : grad)
        value *= 2.0;
    }
    expect_close(evaluate(call, DType::f64, DType::f64, kCpu, {}, 2), once, 1e-12, call.text);
  }
}

TEST_P(Op, AddsToTheGradientOfAValueUsedTwice) {
  for (int i = 0; i < 20; ++i) {
    const OpCall call = small_call(op(), i);
    Results once = evaluate(call, DType::f64, DType::f64, kCpu);
    for (Values& grad : once.grads) {
      for (double& value : grad)
        value *= 2.0;
    }
    const auto copy = [](const Var& parameter) { return parameter * 1.0; };
    expect_close(evaluate(call, DType::f64, DType::f64, kCpu, copy, 2), once, 1e-12, call.text);
  }
}

/// The same elements with gaps between rows and between matrices: not even rows() takes it.
Tensor with_gaps(const Tensor& x) {
  std::vector<std::int64_t> extents(x.shape().extents().begin(), x.shape().extents().end());
  for (auto& extent : extents)
    ++extent;
  Tensor view = full(Shape(extents), 1e9, x.dtype());
  for (int d = 0; d < x.rank(); ++d)
    view = view.slice(d, 0, x.dim(d));
  view.copy_from(x);
  return view;
}

TEST_P(Op, AcceptsAViewWithGaps) {
  if (GetParam() == "reshape") return;  // documented to refuse it, as its error cases check
  for (int i = 0; i < 30; ++i) {
    OpCall call = small_call(op(), i);
    if (call.inputs[0].rank() < 2) continue;
    const Results expected = evaluate(call, DType::f64, DType::f64, kCpu);
    call.inputs[0] = with_gaps(call.inputs[0]);
    expect_close(evaluate(call, DType::f64, DType::f64, kCpu), expected, 1e-13, call.text);
  }
}

TEST_P(Op, RefusesMistakes) {
  for (const ErrorCase& mistake : op().errors) {
    try {
      mistake.call();
      ADD_FAILURE() << "accepted what should throw: " << mistake.fragment;
    } catch (const Error& error) {
      EXPECT_EQ(std::string(typeid(error).name()), mistake.type->name()) << error.what();
      EXPECT_NE(std::string(error.what()).find(mistake.fragment), std::string::npos)
          << error.what() << "\nlacks: " << mistake.fragment;
    }
  }
}

const auto kNameOf = [](const auto& info) { return info.param; };

INSTANTIATE_TEST_SUITE_P(Cpu, Op, ::testing::ValuesIn(op_names()), kNameOf);

class CudaOp : public CudaTestWith<std::tuple<std::string, DType>> {};

TEST_P(CudaOp, AgreesWithTheCpuInDouble) {
  const auto& [name, dtype] = GetParam();
  const OpCase& op = find_op(name);
  // Of the largest value. 16-bit: a few units in the last place, as attention rounds in between.
  const double tolerance = dtype == DType::f32 ? 3e-5 : dtype == DType::f16 ? 4e-3 : 2.5e-2;
  for (int i = 0; i < kSmallCalls + kLargeCalls; ++i) {
    const OpCall call = i < kSmallCalls ? small_call(op, i) : large_call(op, i);
    expect_close(evaluate(call, dtype, dtype, kCuda), evaluate(call, dtype, DType::f64, kCpu),
                 tolerance, call.text);
    if (HasFailure()) return;
  }
}

const auto kNameOfPair = [](const auto& info) {
  return cat(std::get<0>(info.param), "_", std::get<1>(info.param));
};

INSTANTIATE_TEST_SUITE_P(Cuda, CudaOp,
                         ::testing::Combine(::testing::ValuesIn(op_names()),
                                            ::testing::Values(DType::f32, DType::f16, DType::bf16)),
                         kNameOfPair);

/// The name of the op that a line "Type name(..." declares at namespace level, or "".
std::string declared_name(const std::string& line) {
  const std::size_t parenthesis = line.find('(');
  if (parenthesis == std::string::npos || line[0] == ' ' || line[0] == '/') return "";
  if (line.rfind("Tensor ", 0) == 0) return "";  // has no gradient, so no row
  const std::size_t space = line.rfind(' ', parenthesis);
  if (space == std::string::npos) return "";
  const std::string name = line.substr(space + 1, parenthesis - space - 1);
  return name.rfind("operator", 0) == 0 ? "" : name;
}

TEST(Convert, RoundsForwardAndBackAgain) {
  const Var x = Var::parameter(from_vector(std::vector<double>{1.0, 0.1, -3.0}, {3}));
  const Var y = convert(x, DType::f32);
  EXPECT_EQ(y.dtype(), DType::f32);
  EXPECT_EQ(y.value().to_vector<double>()[1], static_cast<double>(0.1F));
  backward(y, from_vector(std::vector<float>{0.1F, 2.0F, 3.0F}, {3}));
  EXPECT_EQ(x.grad().dtype(), DType::f64);
  EXPECT_EQ(x.grad().to_vector<double>()[0], static_cast<double>(0.1F));
  EXPECT_EQ(convert(x, DType::f64).value().data(), x.value().data());
}

using CudaConvert = CudaTest;

TEST_F(CudaConvert, WidensAndNarrowsThroughTheGraph) {
  const Var x = Var::parameter(full({4, 8}, 0.1, DType::bf16, kCuda));
  const Var wide = convert(scale(x, 1.0), DType::f32);
  EXPECT_EQ(wide.dtype(), DType::f32);
  backward(sum(convert(scale(wide, 3.0), DType::bf16)));
  EXPECT_EQ(x.grad().dtype(), DType::f32);
  EXPECT_EQ(x.grad().to_vector<float>(), std::vector<float>(32, 3.0F));
}

TEST(LinearCrossEntropy, HoldsOnlySomeRowsOfLogits) {
  constexpr std::int64_t kRows = 512, kIn = 4, kClasses = 256, kAtOnce = 32;
  const auto memory = new_allocator(kCpu);  // before what holds gradients in it
  const Var x = Var::parameter(full({kRows, kIn}, 0.5)), w = Var::parameter(zeros({kClasses, kIn}));
  const Tensor targets = zeros({kRows}, DType::i32);
  {
    const AllocatorScope scope(kCpu, *memory);
    backward(linear_cross_entropy(x, w, targets, {.rows = kAtOnce}));
  }
  const std::size_t part = kAtOnce * kClasses * sizeof(float);
  const std::size_t gradients = 2 * (kRows * kIn + kClasses * kIn) * sizeof(float);
  const std::size_t rest = 4 * kRows * sizeof(float);
  EXPECT_GE(memory->stats().peak_live, part);
  EXPECT_LE(memory->stats().peak_live, part + gradients + rest);
}

TEST(CachedAttention, RefusesWhatDoesNotFit) {
  using ::testing::HasSubstr;
  using ::testing::ThrowsMessage;
  const Tensor qkv = zeros({2, 1, 12}), cache = zeros({2, 5, 8});
  const Tensor position = zeros({1}, DType::i32);
  EXPECT_THAT([&] { cached_attention(qkv, 2, cache, position); },
              ThrowsMessage<Error>(HasSubstr("expected a NoGrad")));
  const NoGrad no_grad;
  EXPECT_EQ(cached_attention(qkv, 2, cache, position).shape(), (Shape{2, 1, 4}));
  const auto expect_refused = [&](const std::string& fragment, const Tensor& input, int heads,
                                  const Tensor& kept, const Tensor& at) {
    EXPECT_THAT([&] { cached_attention(input, heads, kept, at); },
                ThrowsMessage<Error>(HasSubstr(fragment)));
  };
  expect_refused("expected [batch, 1, 3 * 2 * head_size]", zeros({2, 2, 12}), 2, cache, position);
  expect_refused("expected [batch, 1, 3 * 5 * head_size]", qkv, 5, cache, position);
  expect_refused("cache", qkv, 2, zeros({3, 5, 8}), position);
  expect_refused("cache", qkv, 2, zeros({2, 5, 4}), position);
  expect_refused("cache", qkv, 2, zeros({2, 5, 8}, DType::f64), position);
  expect_refused("not contiguous", qkv, 2, zeros({2, 9, 8}).slice(1, 0, 5), position);
  expect_refused("position", qkv, 2, cache, zeros({2}, DType::i32));
  expect_refused("position", qkv, 2, cache, zeros({1}));
}

TEST(OpTable, HasARowForEveryOpOfTheHeader) {
  std::ifstream header(LAMINA_SOURCE_DIR "/autograd/ops.h");
  ASSERT_TRUE(header) << LAMINA_SOURCE_DIR;
  std::set<std::string> declared;
  for (std::string line; std::getline(header, line);) {
    if (const std::string name = declared_name(line); !name.empty()) declared.insert(name);
  }
  EXPECT_GE(declared.size(), 20U) << "the pattern no longer finds the declarations";
  std::set<std::string> tested;
  for (const OpCase& row : op_cases()) {
    EXPECT_TRUE(tested.insert(std::string(row.name)).second) << row.name << " has two rows";
    EXPECT_FALSE(row.errors.empty()) << row.name << " has no error cases";
    const OpCall call = small_call(row, 0);
    EXPECT_TRUE(call.op && call.reference) << row.name << " has no op or no reference";
    EXPECT_FALSE(call.inputs.empty()) << row.name << " has no input to differentiate by";
  }
  EXPECT_EQ(declared, tested);
}

}  // namespace
}  // namespace lamina::testing
