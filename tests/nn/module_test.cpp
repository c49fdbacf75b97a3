// SPDX-License-Identifier: MIT
#include "nn/module.h"

#include "nn/nn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Gate : Layer<Gate> {
  explicit Gate(std::int64_t width) : width(width) {}

  const std::int64_t width;
  Var& gain = param("gain", {width}, init::ones);
  nn::Linear& project = add<nn::Linear>("project", width, width);
  std::string seen_scope;

  Var forward(const Var& x) {
    seen_scope = current_scope();
    return project(x) * gain;
  }
};

struct Stack : Layer<Stack> {
  List<Gate>& gates = add<List<Gate>>("gates", 2, std::int64_t{3});
  nn::Dropout& dropout = add<nn::Dropout>("dropout", 0.5);

  Var forward(Var x) {
    for (Gate* gate : gates)
      x = (*gate)(x);
    return dropout(x);
  }
};

struct Clash : Layer<Clash> {
  Var& a = param("weight", {1}, init::ones);
  Var& b = param("weight", {1}, init::ones);
};

TEST(Module, NamesParametersInOrderOfDeclaration) {
  Stack model;
  std::vector<std::string> names;
  for (const auto& [name, var] : model.named_parameters())
    names.push_back(name);
  EXPECT_THAT(names, ElementsAre("gates.0.gain", "gates.0.project.weight", "gates.0.project.bias",
                                 "gates.1.gain", "gates.1.project.weight", "gates.1.project.bias"));
  EXPECT_EQ(model.parameter_count(), 2 * (3 + 9 + 3));
  EXPECT_EQ(model.gates[1].project.path(), "gates.1.project");
}

TEST(Module, RefusesANameThatIsTaken) {
  EXPECT_THROW(Clash(), Error);
}

TEST(Layer, OpensAScopeWithItsPath) {
  Stack model;
  model(zeros({2, 3}));
  EXPECT_EQ(model.gates[1].seen_scope, "gates.1");
  EXPECT_EQ(current_scope(), "");
}

TEST(Module, SwitchesTheWholeTreeToEvaluation) {
  Stack model;
  model.gates[0].gain.value().fill(0.0);
  model.gates[1].project.bias.value().fill(1.0);
  const Tensor x = full({64, 3}, 1.0);
  model.eval();
  EXPECT_THAT(model(x).value().to_vector<float>(), ::testing::Each(1.0F));
  model.train();
  EXPECT_THAT(model(x).value().to_vector<float>(), ::testing::Contains(0.0F));
}

TEST(Module, ConvertsItsParameters) {
  Stack model;
  model.to(kCpu, DType::f64);
  EXPECT_EQ(model(zeros({1, 3}, DType::f64)).dtype(), DType::f64);
}

TEST(Module, IsTheSameFromTheSameSeed) {
  seed(3);
  nn::Linear a(5, 4);
  nn::Linear b(5, 4);
  seed(3);
  nn::Linear c(5, 4);
  EXPECT_EQ(a.weight.value().to_vector<float>(), c.weight.value().to_vector<float>());
  EXPECT_NE(a.weight.value().to_vector<float>(), b.weight.value().to_vector<float>());
}

TEST(CausalSelfAttention, SeesNothingOfTheFuture) {
  nn::CausalSelfAttention attention(16, 4);
  Generator generator(1);
  const Tensor x = randn({1, 6, 16}, generator);
  const std::vector<float> before = attention(x).value().to_vector<float>();
  x.slice(1, 4, 6).fill(9.0);
  const std::vector<float> after = attention(x).value().to_vector<float>();
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 4 * 16, after.begin()));
  EXPECT_FALSE(std::equal(before.begin() + 4 * 16, before.end(), after.begin() + 4 * 16));
}

TEST(LayerNorm, AddsAndNormalizesAsTheUnfusedComposition) {
  nn::LayerNorm norm(8);
  Generator generator(2);
  norm.weight.value().copy_from(randn({8}, generator));
  norm.bias.value().copy_from(randn({8}, generator));
  const Tensor residual = randn({3, 8}, generator);
  const Tensor x = randn({3, 8}, generator);
  const auto [sum, normalized] = norm.add_and_normalize(residual, x);
  const Var expected = Var(residual) + Var(x);
  EXPECT_EQ(sum.value().to_vector<float>(), expected.value().to_vector<float>());
  EXPECT_EQ(normalized.value().to_vector<float>(), norm(expected).value().to_vector<float>());
}

TEST(Mlp, EqualsItsLayersOneByOne) {
  nn::Mlp mlp(6, {.hidden = 10});
  Generator generator(2);
  const Tensor x = randn({5, 6}, generator, DType::f64);
  mlp.to(kCpu, DType::f64);
  const std::vector<double> fused = mlp(x).value().to_vector<double>();
  const std::vector<double> plain = mlp.down(gelu(mlp.up(x))).value().to_vector<double>();
  for (std::size_t i = 0; i < fused.size(); ++i)
    EXPECT_NEAR(fused[i], plain[i], 1e-14);
}

}  // namespace
}  // namespace lamina
